"""Building the captioned pictures: fetch, verify, render, and write a manifest.

    OUT/pictures/*.png      256 x 256, alpha kept
    OUT/manifest.jsonl      one `CaptionedPicture` a line, written last

A picture that is there is not drawn again, and a finished manifest is returned as it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from tessera.data.sources import clipart, emoji, gcompris, stamps
from tessera.data.sources.picture import CaptionedPicture, Drawing
from tessera.data.sources.render import render
from tessera.errors import UserError

Progress = Callable[[int], None]
# Raised whenever a change to the sources changes what is built.
RECIPE = 1
SOURCES: dict[str, Callable[[Path], Iterator[Drawing]]] = {
    "emoji": emoji.drawings,
    "openclipart": clipart.drawings,
    "stamps": stamps.drawings,
    "gcompris": gcompris.drawings,
}
# What a folder holds unless it is asked for more: adding to this makes built folders build again.
DEFAULT_SOURCES = ("emoji", "openclipart", "stamps")
_PENDING = 64  # drawings handed to the renderers ahead of their results


def build(
    out: Path,
    *,
    cache: Path | None = None,
    sources: Sequence[str] = DEFAULT_SOURCES,
    processes: int = 2,
    progress: Progress | None = None,
) -> list[CaptionedPicture]:
    """Build the pictures of the given sources into `out`; a second call does nothing.

    Args:
        out: folder that gets `manifest.jsonl` and `pictures/`.
        cache: folder for the fetched archives; default `out`/cache.
        sources: which of `SOURCES` to build; all but "emoji" need a Debian or Ubuntu system,
            and "gcompris" is built only if it is named here.
        processes: renderers to run at once.
        progress: called with the number of pictures done so far.

    Raises:
        UserError: a source is unknown, a package cannot be fetched or is not the pinned one.
    """
    for source in sources:
        if source not in SOURCES:
            raise UserError(f"unknown source {source!r}; sources are {', '.join(SOURCES)}")
    stamp = {"recipe": RECIPE, "sources": sorted(sources)}
    stamp_file = out / "built.json"
    if stamp_file.exists() and json.loads(stamp_file.read_text()) == stamp:
        return read_manifest(out)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    cache = cache or out / "cache"
    drawings = (drawing for source in sources for drawing in SOURCES[source](cache))
    pictures = []
    with ProcessPoolExecutor(processes) as pool:
        for picture in _render_all(drawings, out / "pictures", pool):
            pictures.append(picture)
            if progress is not None:
                progress(len(pictures))
    _write_manifest(pictures, out)
    stamp_file.write_text(json.dumps(stamp) + "\n")
    return pictures


def read_manifest(out: Path) -> list[CaptionedPicture]:
    """Read the pictures that `build` wrote.

    Raises:
        UserError: there is no finished manifest in `out`.
    """
    manifest = out / "manifest.jsonl"
    if not manifest.exists():
        raise UserError(f"{manifest} does not exist: build the pictures first")
    with manifest.open(encoding="utf-8") as lines:
        return [CaptionedPicture.from_json(json.loads(line), out) for line in lines]


def _render_all(
    drawings: Iterator[Drawing], folder: Path, pool: ProcessPoolExecutor
) -> Iterator[CaptionedPicture]:
    """Yield what could be drawn, in the order of the drawings."""
    queue: list[tuple[Drawing, Path, Future[bool] | None]] = []
    for drawing in drawings:
        path = folder / f"{drawing.name}.png"
        future = None if path.exists() else pool.submit(render, drawing, path)
        queue.append((drawing, path, future))
        if len(queue) >= _PENDING:
            yield from _finished(queue.pop(0))
    for item in queue:
        yield from _finished(item)


def _finished(item: tuple[Drawing, Path, "Future[bool] | None"]) -> Iterator[CaptionedPicture]:
    drawing, path, future = item
    if future is not None and not future.result():
        return
    yield CaptionedPicture(
        path=path,
        concept=drawing.concept,
        title=drawing.title,
        title_zh=drawing.title_zh,
        kind=drawing.kind,
        hand=drawing.hand,
        source=drawing.source,
        licence=drawing.licence,
        trainable=drawing.trainable,
    )


def _write_manifest(pictures: Sequence[CaptionedPicture], out: Path) -> None:
    partial = out / "manifest.part"
    with partial.open("w", encoding="utf-8") as lines:
        for picture in pictures:
            lines.write(json.dumps(picture.to_json(out), ensure_ascii=False) + "\n")
    partial.replace(out / "manifest.jsonl")
