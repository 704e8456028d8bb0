"""`tessera doctor`: what this machine has, what is missing, what would be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tessera.diagnostics.doctor import Finding


def doctor() -> None:
    """Tell what this machine has, lacks and would use.

    Exit 1 if something is missing that everything needs.
    """
    from tessera.bundled import cache_directory
    from tessera.diagnostics.doctor import examine

    report = examine(cache=cache_directory(), default_model=_default_model())
    typer.echo("\n".join(report.lines()))
    if not report.works:
        raise typer.Exit(1)


def _default_model() -> Finding:
    from tessera import bundled
    from tessera.diagnostics.doctor import Finding
    from tessera.errors import UserError

    try:
        path = bundled.default_model_path()
    except UserError as error:
        return Finding("note", "default model", str(error))
    if bundled.is_complete(path):
        return Finding("ok", "default model", f"ready in {path}")
    pins = (bundled.VISION_WHEEL, bundled.LANGUAGE_WHEEL)
    size = sum(pin.size for pin in pins) / 1e6
    text = f"not made yet: the first `tessera chat` downloads {size:.0f} MB"
    return Finding("ok", "default model", text)
