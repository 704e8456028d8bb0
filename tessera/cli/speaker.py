"""One question put to the model, its answer printed as it comes."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from tessera.cli.loading import say

if TYPE_CHECKING:
    from tessera.assistant import Answer, Assistant
    from tessera.processing.conversation import Conversation


class Speaker:
    """Asks the model and prints what it says."""

    def __init__(
        self,
        assistant: Assistant,
        name: str,
        settings: dict[str, Any],  # of `Assistant.stream`
        *,
        as_json: bool,
        verbose: bool,
    ) -> None:
        self.assistant = assistant
        self.name = name
        self.settings = settings
        self.as_json = as_json
        self.verbose = verbose

    def answer(self, conversation: Conversation, *, question: str, images: list[str]) -> Answer:
        """Print the answer as it comes; Ctrl-C ends it and keeps what was said."""
        stream = self.assistant.stream(conversation, **self.settings)
        try:
            for piece in stream:
                if not self.as_json:
                    sys.stdout.write(visible(piece))
                    sys.stdout.flush()
        except KeyboardInterrupt:  # between two pieces
            stream.close()
        answer = stream.answer
        if self.as_json:
            typer.echo(json.dumps(self._record(answer, question, images), ensure_ascii=False))
        else:
            typer.echo()
            if answer.finish_reason == "length":
                say(cut_off(answer))
        if self.verbose:
            say(summary(answer))
        return answer

    def _record(self, answer: Answer, question: str, images: list[str]) -> dict[str, Any]:
        timing = answer.timing
        return {
            "model": self.name,
            "precision": self.assistant.precision,
            "images": images,
            "question": question,
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
            "grids": [list(grid) for grid in answer.grids],
            "tiles": timing.tiles,
            "visual_tokens": timing.visual_tokens,
            "prompt_tokens": timing.prompt_tokens,
            "answer_tokens": len(answer.token_ids),
            "first_token_s": round(timing.first_token_s, 3),
            "tokens_per_s": round(answer.tokens_per_s, 2) if answer.tokens_per_s else None,
        }


def cut_off(answer: Answer) -> str:
    """Say why an answer ends in the middle."""
    count = len(answer.token_ids)
    if answer.is_clipped:
        return f"(cut off after {count} tokens: the conversation is as long as the model can read)"
    return f"(cut off after {count} tokens: --max-new-tokens allows more)"


def visible(piece: str) -> str:
    """Replace what would steer a terminal instead of being read."""
    if not sys.stdout.isatty():
        return piece
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in piece
    )


def summary(answer: Answer) -> str:
    """Return the line that --verbose adds."""
    timing = answer.timing
    grids = ", ".join(f"{columns} x {rows}" for columns, rows in answer.grids) or "no picture"
    speed = f", {answer.tokens_per_s:.1f} tokens/s" if answer.tokens_per_s else ""
    return (
        f"grid {grids} | {timing.tiles} tiles, {timing.visual_tokens:,} visual tokens, "
        f"{timing.prompt_tokens:,} prompt tokens | first token after {timing.first_token_s:.2f} s"
        f" | {len(answer.token_ids)} tokens{speed} | {answer.finish_reason}"
    )
