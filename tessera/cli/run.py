"""`tessera run`: the same question, or one of its own, about many pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.cli.loading import load_assistant, model_name, say
from tessera.cli.options import AnswerOptions, ModelOptions, spread
from tessera.errors import UserError

if TYPE_CHECKING:
    from tessera.assistant import Assistant
    from tessera.cli.batch import Item, Results
    from tessera.processing.conversation import Conversation


@spread
def run(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of pictures, or JSONL with image (and question, id) in each line.",
            metavar="FOLDER|FILE.jsonl",
        ),
    ],
    *,
    ask: Annotated[
        str | None, typer.Option(help="The question; lines with their own keep it.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSONL to write; goes on where it ended.")
    ],
    model: ModelOptions,
    answering: AnswerOptions,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Pictures answered together.")] = 4,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Try again what ended with an error before.")
    ] = False,
) -> None:
    """Answer for many pictures, one JSON line each.

    Started again, it goes on where it ended. A picture that cannot be opened becomes a line with
    an error. Exit 1 if nothing was answered.
    """
    from tessera.cli.batch import Results, names_left_out, read_items

    items = read_items(source, ask)
    left_out = names_left_out(source)
    if left_out:
        shown = ", ".join(map(repr, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        say(f"left out, not named like pictures: {len(left_out)} of the folder's files ({shown})")
    with Results(output, model=model_name(model), retry_errors=retry_errors) as results:
        todo = [item for item in items if not results.has(item)]
        if len(todo) < len(items):
            say(f"{output} holds {len(items) - len(todo)} of {len(items)} already")
        if not todo:
            say("nothing left to do")
            return
        options = answering.generation(model)
        assistant = load_assistant(model)
        settings = {"options": options, "max_tiles": answering.max_tiles}
        worker = _Worker(assistant, results, answering.system, settings)
        worker.work(todo, batch)
    say(f"{results.num_answered} answered, {results.num_errors} errors, in {output}")
    if not results.num_answered:
        raise typer.Exit(1)


class _Worker:
    """Answers items a few at a time and writes each result once."""

    def __init__(
        self,
        assistant: Assistant,
        results: Results,
        system: str | None,
        settings: dict[str, Any],
    ) -> None:
        self.assistant = assistant
        self.results = results
        self.system = system
        self.settings = settings

    def work(self, items: list[Item], batch: int) -> None:
        """Answer every item."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("answering", total=len(items))
            for first in range(0, len(items), batch):
                chunk = items[first : first + batch]
                self._answer(chunk)
                progress.advance(task, len(chunk))

    def _answer(self, items: list[Item]) -> None:
        readable: list[tuple[Item, Conversation]] = []
        for item in items:
            try:
                readable.append((item, item.conversation(self.system)))
            except UserError as error:
                self.results.add_error(item, str(error))
        if not readable:
            return
        try:
            answers = self.assistant.batch(
                [conv for _, conv in readable], rows_at_once=len(readable), **self.settings
            )
        except UserError as error:
            if len(readable) == 1:
                self.results.add_error(readable[0][0], str(error))
            else:  # one of them is at fault: find it
                for item, _ in readable:
                    self._answer([item])
            return
        for (item, _), answer in zip(readable, answers, strict=True):
            self.results.add_answer(item, answer)
