"""Words of the command line become pictures and a question, checked before a model is loaded."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.errors import ImageError, UserError

if TYPE_CHECKING:
    from tessera.processing.conversation import Picture, Video

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv",
)  # fmt: skip
STDIN = "-"
_MAX_STDIN = 128 * 2**20  # bytes; what a picture may have


@dataclass(frozen=True)
class Shown:
    """A picture, video or document that the user shows, and how to call it."""

    name: str
    parts: tuple[Picture | Video, ...] = field(repr=False)


@dataclass(frozen=True)
class Request:
    """What `tessera chat` was asked."""

    shown: tuple[Shown, ...]
    question: str | None  # None: interactive


def read_request(words: list[str]) -> Request:
    """Tell pictures and the question apart: every word but the last must be a picture.

    The last word is a picture if such a file exists, or if it is named like one; otherwise it is
    the question. `-` as the last word reads the question from stdin, before it a picture.
    """
    if not words:
        return Request((), None)
    if STDIN in words and sys.stdin is None:
        raise UserError("stdin (-) is closed: name a file, or give the question in words")
    *front, last = words
    if STDIN in front and (last == STDIN or front.count(STDIN) > 1):
        raise UserError("stdin (-) can be read once: as one picture or as the question")
    if last == STDIN:
        question = _read_question()
        return Request(tuple(show(word) for word in front), question)
    if _is_file_word(last):
        return Request(tuple(show(word) for word in words), None)
    if not last.strip():
        raise UserError("the question is empty: write one, or leave it out for a conversation")
    return Request(tuple(show(word) for word in front), last)


def is_address(word: str) -> bool:
    """Tell whether a word is a URL, which is refused: nothing is fetched."""
    return word.startswith(("http:", "https:", "data:"))


def _is_file_word(word: str) -> bool:
    if not word.strip():  # Path("") would be the folder we are in
        return False
    if _exists(word):
        return True
    suffix = Path(word).suffix.lower()
    return suffix in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES, ".pdf") and " " not in word


def _exists(word: str) -> bool:
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a question may be too long for a file name
        return False


def show(word: str) -> Shown:
    """Open one picture, or note a video or the pages of a document.

    Raises:
        ImageError: it does not exist or cannot be opened.
    """
    from tessera.processing.conversation import Picture, Video
    from tessera.processing.image import open_image

    if word == STDIN:
        data = sys.stdin.buffer.read(_MAX_STDIN + 1)
        return Shown("stdin", (Picture(open_image(data, name="stdin")),))
    if is_address(word):
        open_image(word)  # refused in the same words as everywhere
    path = Path(os.path.expanduser(word))  # leaves an unknown ~user as it is
    suffix = path.suffix.lower()
    if suffix == ".pdf" and path.is_file():
        from tessera.processing.media import pdf_pages

        return Shown(word, tuple(Picture(page) for page in pdf_pages(path)))
    if not _exists(word):
        _explain_missing(word)
    elif path.is_dir() or (suffix in VIDEO_SUFFIXES and path.is_file()):
        from tessera.processing.media import video_frames

        video_frames(path, num_frames=1)  # refuses what cannot be opened, before a model is loaded
        return Shown(word, (Video(path),))
    return Shown(word, (Picture(open_image(path)),))


def _explain_missing(word: str) -> None:
    from tessera.processing.image import printable

    suffix = Path(word).suffix
    if not suffix or (" " in word.strip() and suffix.lower() not in PICTURE_SUFFIXES):
        raise ImageError(
            f"{printable(word)!r} is not a file: pictures come first, "
            "then the question as one word, in quotes"
        )


def _read_question() -> str:
    data = sys.stdin.buffer.read(_MAX_STDIN)
    if b"\0" in data:
        raise UserError("stdin (-) is not text: to show a picture, add the question behind the -")
    question = data.decode("utf-8", errors="replace").strip()
    if not question:
        raise UserError("stdin (-) holds no question")
    return question


def parts_of(shown: tuple[Shown, ...] | list[Shown]) -> list[Any]:
    """Return everything that is shown, in order."""
    return [part for item in shown for part in item.parts]
