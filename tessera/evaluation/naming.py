"""Does an answer name the thing in the picture, or at least its kind?

The rule, committed before the default model was trained: only the first fifteen words of an answer
count. It names the kind if one of the kind's accepted words (or its plural) stands among them
before "perhaps" ("a container, perhaps a handbag" names no hand), and the thing if every content
word of the title does. Synonyms that are not listed count as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_EMPTY = frozenset(("a", "an", "the", "of", "with", "and", "in", "on", "at", "for", "to", "from"))
_MAX_WORDS = 15


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The verdict on one answer."""

    thing: bool
    kind: bool

    @property
    def right(self) -> bool:
        """Whether the thing or its kind was named."""
        return self.thing or self.kind


def _words(text: str) -> list[str]:
    return [_singular(word) for word in re.findall(r"[a-z0-9]+", text.lower())]


def _singular(word: str) -> str:
    """Strip an English plural ending; the same for answers and titles, so harmless where wrong."""
    for ending, kept in (
        ("ies", "y"),
        ("sses", "ss"),
        ("shes", "sh"),
        ("ches", "ch"),
        ("xes", "x"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + kept
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def judge(answer: str, *, title: str, kind_words: Sequence[str]) -> Naming:
    """Apply the rule to one answer.

    Args:
        answer: what the model said, unedited.
        title: the name of the thing, as "magpie" or "flag of Japan".
        kind_words: words or phrases accepted for its kind, as ("bird",).
    """
    said = _words(answer)[:_MAX_WORDS]
    sure = _words(answer.lower().partition("perhaps")[0])[:_MAX_WORDS]
    line = f" {' '.join(sure)} "
    kind = any(f" {' '.join(_words(phrase))} " in line for phrase in kind_words)
    content = [word for word in _words(title) if word not in _EMPTY]
    return Naming(thing=bool(content) and all(word in said for word in content), kind=kind)


def rate(verdicts: Sequence[Naming]) -> float:
    """Share of answers that name the thing or its kind; 0 for none."""
    return sum(verdict.right for verdict in verdicts) / max(len(verdicts), 1)
