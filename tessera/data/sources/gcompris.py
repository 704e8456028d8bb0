"""Word pictures of GCompris: one cartoon and one word each, by Art4Apps under CC BY-SA.

They are test material, like the stamps: one more style that no trained weight has seen. The
vocabulary lessons of GCompris name them in English and Chinese; kinds come from the nouns of the
clip art, and a word without one is left out. Not among the sources that are built by default.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tessera.data.sources.clipart_kinds import NOUN_KINDS
from tessera.data.sources.fetch import Package, fetch, members
from tessera.data.sources.picture import Drawing
from tessera.data.sources.rcc import resources
from tessera.data.sources.tables import words
from tessera.data.sources.titles import concept_key, slug
from tessera.errors import UserError

# Of many licences; this is what its copyright file says of resource/words_sample/*, all we take.
PACKAGE = Package(
    registry="debian",
    name="gcompris-qt-data",
    version="3.1-2",
    sha256="e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    licence="CC-BY-SA-3.0",
)
HAND = "gcompris"

_RCC = "/gcompris-qt/rcc/lang.rcc"
_FOLDER = "/gcompris/src/activities/lang/resource"
_WORDS = f"{_FOLDER}/words_sample.json"
_CHINESE = f"{_FOLDER}/content-zh_CN.json"
# The other two show pots of paint, "orange" among them, and numbers.
_LESSONS = words("animal bodyparts fruit people")
# Pictures that show more than their word: an arrow tells which of two people, or which part.
_WITH_ARROW = words("boy child ear eyes face man nose woman")


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word of a lesson, in English and Chinese, and the stem of its picture's name."""

    lesson: str
    stem: str
    title: str
    title_zh: str | None

    @property
    def kind(self) -> str | None:
        """Kind of the thing; None if it has none, or if its picture alone does not show it."""
        if self.lesson not in _LESSONS or self.stem in _WITH_ARROW:
            return None
        return NOUN_KINDS.get(self.title)


def drawings(cache: Path) -> Iterator[Drawing]:
    """Yield the word pictures whose word names a thing of a known kind."""
    found = [content for _, content in members(fetch(PACKAGE, cache), suffixes=(_RCC,))]
    if len(found) != 1:
        raise _damaged(f"it holds {len(found)} files {_RCC}, not one")
    yield from word_drawings(found[0])


def word_drawings(rcc: bytes) -> Iterator[Drawing]:
    """Yield the pictures of the lessons in `lang.rcc`.

    Raises:
        UserError: the file is damaged, or lacks a word list or the picture of a word.
    """
    label = f"{PACKAGE.label}: lang.rcc"
    files = dict(resources(rcc, label=label, suffixes=(".webp", _WORDS, _CHINESE)))
    for word in read_words(_member(files, _WORDS), _member(files, _CHINESE)):
        if word.kind is None:
            continue
        yield Drawing(
            name=f"{HAND}-{slug(word.stem)}",
            content=_member(files, f"{_FOLDER}/words_sample/{word.stem}.webp"),
            concept=concept_key(word.title),
            title=word.title,
            title_zh=word.title_zh,
            kind=word.kind,
            hand=HAND,
            source=PACKAGE.label,
            licence=PACKAGE.licence,
            trainable=False,
        )


def read_words(listing: bytes, chinese: bytes) -> list[Word]:
    """Read the words of the lessons; `chinese` has theirs by the name of the sound, "bee.ogg".

    Raises:
        UserError: one of the two is not such a list.
    """
    translations = _parse(chinese, _CHINESE)
    try:
        return [
            _word(str(lesson["name"]), entry, translations)
            for chapter in _parse(listing, _WORDS)
            for lesson in chapter["content"]
            for entry in lesson["content"]
        ]
    except (KeyError, TypeError, AttributeError):
        raise _damaged(f"{_WORDS} is not a list of words as expected") from None


def _word(lesson: str, entry: dict[str, str], translations: dict[str, str]) -> Word:
    title, stem = entry["description"], PurePosixPath(entry["image"]).stem
    chinese = translations.get(f"{stem}.ogg", title)
    return Word(
        lesson=lesson,
        stem=stem,
        title=title.lower(),
        title_zh=None if chinese.isascii() else chinese.strip(),  # untranslated ones are English
    )


def _parse(text: bytes, path: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(f"{path} is not JSON") from None


def _member(files: dict[str, bytes], path: str) -> bytes:
    if path not in files:
        raise _damaged(f"{path} is missing")
    return files[path]


def _damaged(what: str) -> UserError:
    return UserError(f"{PACKAGE.label}: {what}; delete the fetched package and build again")
