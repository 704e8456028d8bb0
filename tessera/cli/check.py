"""`tessera check`: prove that a checkpoint computes what it should, or describe it for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.cli.loading import say
from tessera.errors import UserError


def check(
    model: Annotated[
        str,
        typer.Argument(help="Checkpoint directory (with --report also a hub id).", metavar="DIR"),
    ],
    report: Annotated[
        bool,
        typer.Option("--report", help="Print hashes, shapes and a few logits, to be sent in."),
    ] = False,
    precision: Annotated[
        str, typer.Option(help="Number type of --report: float32, bfloat16 or default.")
    ] = "default",
) -> None:
    """Recompute the numbers recorded with a checkpoint.

    They lie in DIR/golden.safetensors, in the layout of tests/golden/README.md; exit 1 if any
    differs beyond tolerance. With --report, describe the checkpoint instead.
    """
    if report:
        from tessera.checkpoint.hub import resolve
        from tessera.diagnostics.describe import report_lines

        typer.echo("\n".join(report_lines(resolve(model), precision=precision)))
        return
    if precision != "default":
        say("--precision changes nothing without --report: numbers are compared in float32")
    directory = Path(model)
    if not directory.is_dir():
        raise UserError(f"{model!r} is not a directory: give one that holds golden.safetensors")
    from tessera.diagnostics.check import check_directory

    result = check_directory(directory)
    typer.echo("\n".join(result.lines()))
    if not result.agrees:
        raise typer.Exit(1)
