"""Captioned real pictures that package registries carry: built once, then read from a manifest.

    from tessera.data.sources import build, split, answer
    pictures = build(Path("pictures-folder"))
    train = [p for p in pictures if split(p) == "train"]

Emoji of eight hands (npm), clip art (Debian, public domain) and, as test material only, stamps
under the GPL (Debian). Word pictures under CC BY-SA, test material too, are built on request:

    build(Path("another-folder"), sources=["gcompris"])

Nothing of them is committed: packages are pinned and hash-checked. Files: `fetch` gets packages,
`emoji`, `clipart`, `stamps` and `gcompris` read them, `titles` and `kinds` make captions,
`render` draws, `splits` keeps things back, `manifest` runs it all.
"""

from tessera.data.sources.kinds import KINDS, answer, sentence
from tessera.data.sources.manifest import SOURCES, build, read_manifest
from tessera.data.sources.picture import CaptionedPicture
from tessera.data.sources.splits import draw_sixty, read_sixty, split, write_sixty

__all__ = [
    "KINDS",
    "SOURCES",
    "CaptionedPicture",
    "answer",
    "build",
    "draw_sixty",
    "read_manifest",
    "read_sixty",
    "sentence",
    "split",
    "write_sixty",
]
