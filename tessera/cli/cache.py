"""`tessera cache`: what Tessera keeps on this disk, and how to be rid of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tessera.errors import UserError, nearest

app = typer.Typer(
    help="List or remove what is kept on this disk.", no_args_is_help=True, rich_markup_mode=None
)


@dataclass(frozen=True)
class Entry:
    """One converted model or one wheel."""

    name: str
    path: Path
    size: int
    note: str


def entries(cache: Path) -> list[Entry]:
    """Return everything that is kept, interrupted downloads and conversions included."""
    from tessera import bundled

    found = []
    for folder in ("models", "wheels"):
        for path in sorted((cache / folder).glob("*")) if (cache / folder).is_dir() else ():
            note = "wheel"
            if path.is_dir():
                note = "model" if bundled.is_complete(path) else "left by an interrupted run"
            found.append(Entry(path.name, path, _size(path), note))
    return found


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


@app.command("list")
def list_() -> None:
    """List converted models and downloaded wheels with their sizes."""
    from tessera.bundled import cache_directory

    cache = cache_directory()
    found = entries(cache)
    for entry in found:
        typer.echo(f"{entry.size / 1e6:>9,.1f} MB  {entry.note:<8} {entry.name}")
    total = sum(entry.size for entry in found) / 1e6
    typer.echo(f"{total:>9,.1f} MB  in {cache}")


@app.command("rm")
def rm(
    names: Annotated[
        list[str] | None, typer.Argument(help="Entries as `tessera cache list` names them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every entry.")] = False,
) -> None:
    """Remove entries; they are made or downloaded again when they are needed."""
    from tessera.bundled import cache_directory

    found = {entry.name: entry for entry in entries(cache_directory())}
    if bool(names) == everything:
        raise UserError("give names of `tessera cache list`, or --all")
    chosen = list(dict.fromkeys(found if everything else names or ()))
    if not chosen:
        typer.echo("the cache is empty")
    for name in chosen:
        if name not in found:
            raise UserError(
                f"the cache holds no {name!r}.{nearest(name, found)} `tessera cache list` shows it"
            )
    for name in chosen:
        entry = found[name]
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
        typer.echo(f"removed {name} ({entry.size / 1e6:,.1f} MB)")
