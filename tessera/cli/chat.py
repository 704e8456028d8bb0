"""`tessera chat`: one question and its answer, or a conversation."""

from __future__ import annotations

from typing import Annotated

import typer

from tessera.cli.loading import load_assistant, model_name, say
from tessera.cli.options import AnswerOptions, ModelOptions, spread

EXIT_STOPPED = 130


@spread
def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures (also videos, folders of frames, PDF), then the question. Without a "
            "question: a conversation. `-` reads stdin.",
            metavar="IMAGE|QUESTION",
        ),
    ] = None,
    *,
    model: ModelOptions,
    answering: AnswerOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print each answer as JSON.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Tell grid, tiles, tokens and times after each answer."),
    ] = False,
) -> None:
    """Ask about pictures, once or in a conversation.

    In a conversation: /image FILE shows another picture, /clear starts afresh, /save FILE writes
    what was said as JSON, /exit or Ctrl-D ends. Ctrl-C stops an answer, not the conversation.
    """
    from tessera.cli.conversation import Session, converse
    from tessera.cli.pictures import parts_of, read_request
    from tessera.cli.speaker import Speaker

    request = read_request(words or [])
    if answering.max_tiles is not None and request.question is not None and not request.shown:
        say("--max-tiles changes nothing without a picture")
    options = answering.generation(model)
    assistant = load_assistant(model)
    settings = {"options": options, "max_tiles": answering.max_tiles}
    speaker = Speaker(assistant, model_name(model), settings, as_json=as_json, verbose=verbose)
    if request.question is None:
        session = Session(system=answering.system, waiting=list(request.shown))
        converse(session, speaker)
        return
    from tessera.processing.conversation import Conversation

    conversation = Conversation.user(
        request.question, parts_of(request.shown), system=answering.system
    )
    names = [item.name for item in request.shown]
    answer = speaker.answer(conversation, question=request.question, images=names)
    if answer.finish_reason == "stopped by user":
        raise typer.Exit(EXIT_STOPPED)
