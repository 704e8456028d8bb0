"""`tessera info`: what a model is made of, and what a picture costs it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tessera.cli.loading import say
from tessera.errors import UserError


def info(
    name: Annotated[
        str | None,
        typer.Argument(help="Checkpoint directory or preset.", metavar="DIR|PRESET"),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Picture whose tiles and tokens to count; may be given again."),
    ] = None,
    max_tiles: Annotated[
        int | None, typer.Option(min=1, max=40, help="Most tiles a picture is cut into.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a model is made of and what it costs.

    Parts, parameters, tokens per tile, memory; without a name, the presets are listed.
    """
    if max_tiles is not None and not image:
        say("--max-tiles changes nothing without --image")
    if name is None:
        if image:
            raise UserError("--image needs a model: name a directory or a preset before it")
        _list_presets(as_json=as_json)
        return
    from tessera.config import ModelConfig
    from tessera.diagnostics.info import describe, find_config, info_lines, picture_cost

    config = find_config(name)
    if image and not isinstance(config, ModelConfig):
        raise UserError(f"{name} is a vision encoder alone: --image needs a chat model")
    costs = [
        picture_cost(config, path, max_tiles=max_tiles)
        for path in image or ()
        if isinstance(config, ModelConfig)
    ]
    described = describe(name, config)
    if as_json:
        pictures = [asdict(cost) | {"tokens": cost.tokens} for cost in costs]
        typer.echo(json.dumps(described.to_json() | {"pictures": pictures}, indent=1))
    else:
        typer.echo("\n".join(info_lines(described, costs)))


def _list_presets(*, as_json: bool) -> None:
    from tessera.presets import PRESETS, VISION_PRESETS

    if as_json:
        typer.echo(json.dumps([*PRESETS, *VISION_PRESETS], indent=1))
        return
    typer.echo("Presets (a checkpoint directory works too):")
    for name in (*PRESETS, *VISION_PRESETS):
        typer.echo(f"  {name}")
