"""One captioned picture, the record that every source yields and every reader of them eats."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CaptionedPicture:
    """A picture on disk and what it shows.

    Attributes:
        path: PNG of 256 x 256 with its alpha channel.
        concept: key shared by every hand that drew this thing ("magpie"); splits go by it.
        title: lower-case English noun phrase without article ("magpie", "flag of Japan").
        title_zh: the same in Chinese, where the source has one.
        kind: one of `kinds.KINDS` ("bird").
        hand: who drew it ("noto").
        source: package and version that it came from.
        licence: SPDX identifier, or "public domain".
        trainable: the licence puts no conditions on weights trained with the picture.
    """

    path: Path
    concept: str
    title: str
    title_zh: str | None
    kind: str
    hand: str
    source: str
    licence: str
    trainable: bool

    def to_json(self, root: Path) -> dict[str, Any]:
        """Return the record with its path relative to `root`."""
        return {**asdict(self), "path": self.path.relative_to(root).as_posix()}

    @classmethod
    def from_json(cls, record: dict[str, Any], root: Path) -> "CaptionedPicture":
        """Read what `to_json` wrote."""
        return cls(**{**record, "path": root / record["path"]})


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture that is not rendered yet: the bytes of an SVG, PNG or WebP file and its caption."""

    name: str
    content: bytes
    concept: str
    title: str
    title_zh: str | None
    kind: str
    hand: str
    source: str
    licence: str
    trainable: bool
