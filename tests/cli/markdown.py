"""Read our Markdown: code blocks, links, tables, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source import ROOT, names_of

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_IDENTIFIER = re.compile(r"`([A-Za-z_][\w.]*)`")
_PLACES = ("*.md", "docs/**/*.md", "dev/*.md", "examples/*.md")


@dataclass(frozen=True)
class Block:
    """One fenced block of code."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Lines without comments and blank lines."""
        bare = [re.sub(r"\s+# .*$|^# .*$", "", line).rstrip() for line in self.text.splitlines()]
        return [line for line in bare if line]


def pages() -> list[Path]:
    """Return every page that we write ourselves."""
    return sorted({path for place in _PLACES for path in ROOT.glob(place)})


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(*match) for match in _FENCE.findall(path.read_text(encoding="utf-8"))]


def without_code(text: str) -> str:
    """Remove fenced blocks; links in them are not links."""
    return _FENCE.sub("", text)


def links(path: Path) -> list[tuple[str, str]]:
    """Return (text, target) of every link."""
    return _LINK.findall(without_code(path.read_text(encoding="utf-8")))


def anchors(text: str) -> set[str]:
    """Return what headings can be linked as."""
    titles = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_link(page: Path, text: str, target: str) -> str | None:
    """Say what is wrong with a link: no such file, no such heading, no such name in a source."""
    if re.match(r"https?://|mailto:", target):
        return None
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not path.exists():
        return f"{target} does not exist"
    if path.suffix == ".md" and anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
        return f"{target}: no such heading"
    name = _IDENTIFIER.fullmatch(text)
    if path.suffix == ".py" and name and name[1] not in names_of(path.read_text(encoding="utf-8")):
        return f"{target} holds no {name[1]}"
    return None


def broken_links(page: Path) -> list[str]:
    """Return what is wrong with the links of a page."""
    found = (broken_link(page, text, target) for text, target in links(page))
    return [problem for problem in found if problem]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, headings and rulers left out."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        is_ruler = re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line)
        is_heading = number + 1 < len(lines) and lines[number + 1].startswith("|--")
        if line.startswith("|") and not is_ruler and not is_heading:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found
