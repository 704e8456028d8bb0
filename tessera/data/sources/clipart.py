"""Clip art of the Open Clip Art Library 0.18 (public domain), as Debian packages it.

Its titles are what contributors typed: names of collections, other languages, numbers, authors.
A picture is taken only if its title, or else its file name, ends in a noun of a committed table.
Flags, signs, arrows, playing cards and maps have rules of their own, because their folders do.
"""

import gzip
import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tessera.data.sources.clipart_kinds import (
    DROPPED,
    IN_FOLDER,
    NOUN_KINDS,
    TITLE_KINDS,
    TRANSLATIONS,
)
from tessera.data.sources.fetch import Package, fetch, members
from tessera.data.sources.picture import Drawing
from tessera.data.sources.titles import concept_key, flag_title, slug

PACKAGE = Package(
    registry="debian",
    name="openclipart-svg",
    version="1:0.18+dfsg-19",
    sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    licence="public domain",
)
HAND = "openclipart"
_COLLECTION = 2  # a title that more pictures share names a collection, not a thing
_MAX_BYTES = 600_000
_SKIPPED_FOLDERS = (
    "special", "logos", "decorations", "signs_and_symbols/led", "computer/buttons",
    "computer/icons/flat-theme", "computer/icons/lemon-theme", "computer/connectors",
    "shapes/flowchart", "shapes/callouts", "people/clothing/pantyhose",
    "signs_and_symbols/flags/semaphore", "signs_and_symbols/flags/historic",
    "signs_and_symbols/flags/miscellany", "recreation/games/chess",
    "recreation/games/cards/white", "recreation/games/cards/ornamental",
    "recreation/games/cards/bordered",
    "recreation/games/cards/cardbacks", "unsorted/duplicates",
)  # fmt: skip
_NOISE = re.compile(r"\b(clipart|clip art|collection|theme|icons|b_w|bw|b and w|md|v)\b")
_PREFIX = re.compile(r"^(hotel icon|gnome (fs|dev|mime)|etiquette|bb|stock|card figures) ")
_COLLECTIONS = re.compile(r"clip ?art|collection|theme|iconset", re.I)
_STAR_POINTS = 12  # more look like discs
_STICK_SHARE = 0.25  # of 52 stick figures
_SUITS = {"c": "clubs", "d": "diamonds", "h": "hearts", "s": "spades"}
_RANKS = {"a": "ace", "j": "jack", "q": "queen", "k": "king"}
_COLOURS = "blue|red|green|yellow|purple|seagreen|orange|black|white|pink|grey"
_ABROAD = ("africa", "america", "asia", "europe", "oceania")
_NO_FLAG = re.compile(r"map|coat|arms|region|provinces|badge|outline|building|ampel|signal|emblem")
_NO_PLACE = re.compile(
    r"flag|alternate|crystal|ani ani|fleur|correct|split|taegeukgi|route|basque|antilles|"
    r"libyan|serbia|iraq|bbourgogne|canary|australian ab|iraqi|inukshuk|spanish|romania map"
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the library: its folder below svg/, the stem of its name and its stated title."""

    folder: str
    stem: str
    title: str
    content: bytes


def drawings(cache: Path) -> Iterator[Drawing]:
    """Yield the clip art whose title names a thing of a known kind."""
    entries = list(_entries(fetch(PACKAGE, cache)))
    shared = Counter(entry.title.lower() for entry in entries)
    done: set[str] = set()
    for entry in sorted(entries, key=lambda e: (e.folder, e.stem)):
        digest = hashlib.sha256(entry.content).hexdigest()
        if digest in done:
            continue
        caption = caption_of(entry, is_collection=shared[entry.title.lower()] > _COLLECTION)
        if caption is None:
            continue
        done.add(digest)
        title, kind = caption
        yield Drawing(
            name=f"{HAND}-{slug(entry.stem)[:40]}-{digest[:8]}",
            content=entry.content,
            concept=clipart_concept(title),
            title=title,
            title_zh=None,
            kind=kind,
            hand=HAND,
            source=PACKAGE.label,
            licence=PACKAGE.licence,
            trainable=True,
        )


def clipart_concept(title: str) -> str:
    """Return the concept of a title; playing cards and jigsaw pieces are one concept each."""
    for series in ("playing card", "jigsaw puzzle piece"):
        if title.endswith(series):
            return series
    return concept_key(title)


def _entries(archive: Path) -> Iterator[Entry]:
    for name, content in members(archive, suffixes=(".svg", ".svgz")):
        path = PurePosixPath(name)
        folder = path.parent.as_posix().partition("/svg/")[2]
        if not folder or folder.startswith(_SKIPPED_FOLDERS) or len(content) > _MAX_BYTES:
            continue
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if is_public_domain(content):
            yield Entry(folder=folder, stem=path.stem, title=stated_title(content), content=content)


def stated_title(svg: bytes) -> str:
    """Return the title of an SVG's metadata, "" if there is none."""
    match = re.search(rb"<dc:title[^>]*>(.*?)</dc:title>", svg, re.S)
    text = match.group(1).decode("utf-8", errors="replace") if match else ""
    return " ".join(html.unescape(html.unescape(text)).split())


def is_public_domain(svg: bytes) -> bool:
    """Tell whether the SVG's own metadata puts it in the public domain."""
    match = re.search(rb'cc:license[^>]*rdf:resource="([^"]*)"', svg)
    return match is None or b"publicdomain" in match.group(1).lower()


def caption_of(entry: Entry, *, is_collection: bool) -> tuple[str, str] | None:
    """Return title and kind of a clip art, None where either is in doubt."""
    folder = entry.folder
    if folder.startswith("signs_and_symbols/flags"):
        return _flag(entry, is_collection=is_collection)
    if entry.stem.startswith("aiga_") or folder.startswith("transportation/roadsigns"):
        return _pictogram(entry.stem)
    if folder.startswith("shapes/arrows") or entry.stem.startswith(("arrow-", "arki_arrow")):
        return _arrow(entry.stem)
    if folder.startswith("recreation/games/cards"):
        return _card(entry.stem)
    if folder == "shapes/stars":
        return _star(entry.stem)
    if folder == "shapes/jigsaw":
        colour = re.search(_COLOURS, entry.stem)
        return (f"{colour.group(0)} jigsaw puzzle piece", "toy or game") if colour else None
    if folder.startswith("geography") and (caption := _map(entry, is_collection=is_collection)):
        return caption
    if folder == "people/stickmen":
        return ("stick figure", "person") if _share(entry.stem) < _STICK_SHARE else None
    if not is_collection and entry.title and not _COLLECTIONS.search(entry.title):
        return _by_title(entry.title, folder) or _by_stem(entry.stem, folder)
    return _by_stem(entry.stem, folder)


def clean(name: str) -> str:
    """Reduce a title or file name to its words: no brackets, numbers, underscores or noise."""
    text = re.sub(r"\([^)]*\)", " ", name.lower())
    text = re.sub(r"[_\d#.,:;!?+&|/-]+", " ", text.replace("t-shirt", "tshirt"))
    return " ".join(_NOISE.sub(" ", text).split()).replace("tshirt", "T-shirt")


def _by_title(name: str, folder: str) -> tuple[str, str] | None:
    title = clean(name)
    title = _PREFIX.sub("", title)
    title = TRANSLATIONS.get(title, title)
    title = re.sub(r"^(a|an|the|simple|generic|another|stylized|contour)\s+", "", title)
    title = re.sub(r"\s+(icon|symbol|contour|outline|silhouette|body part|clothing)$", "", title)
    title = TRANSLATIONS.get(title, title)
    if not title or title in DROPPED or len(title.split()) > 5 or not title.isascii():
        return None
    kind = _kind(title, folder)
    if title == "mouse" and kind == "electronic device":
        title = "computer mouse"
    return (title, kind) if kind else None


def _by_stem(stem: str, folder: str) -> tuple[str, str] | None:
    """Take the longest beginning of a file name that names a thing; its end names the author."""
    words = clean(stem).split()
    for count in range(min(3, len(words)), 0, -1):
        caption = _by_title(" ".join(words[:count]), folder)
        if caption is not None:
            return caption
    return None


def _kind(title: str, folder: str) -> str | None:
    if title in TITLE_KINDS:
        return TITLE_KINDS[title]
    for size in (2, 3):
        tail = " ".join(title.split()[-size:])
        if tail in TITLE_KINDS:
            return TITLE_KINDS[tail]
    head = re.split(r"\s(?:of|with|in|on|and|for|from|without|against|under)\s", title)[0]
    noun = head.split()[-1] if head else ""
    if noun == "T-shirt":
        return "piece of clothing"
    prefixes = sorted((p for p, n in IN_FOLDER if n == noun and folder.startswith(p)), key=len)
    return IN_FOLDER[prefixes[-1], noun] if prefixes else NOUN_KINDS.get(noun)


def _flag(entry: Entry, *, is_collection: bool) -> tuple[str, str] | None:
    parts = entry.folder.split("/")
    if len(parts) < 3 or parts[2] not in _ABROAD or _NO_FLAG.search(entry.stem.lower()):
        return None
    name = entry.title if entry.title and not is_collection else entry.stem
    name = re.sub(r"^(clipart by [^-]*- |national flag of |flag of )", "", name, flags=re.I)
    name = name.rpartition(" - ")[2] or name
    name = re.sub(r"[_\d()]+", " ", name).strip()
    name = re.sub(r"^(USA|Germany|Canada|France)[- ]+(?=\w)", "", name)
    if (
        not name
        or _NO_PLACE.search(name.lower())
        or len(name.split()) > 4
        or not re.fullmatch(r"[\w .'-]+", name)
    ):
        return None
    small = ("and", "of", "de", "the")
    name = " ".join(w if w in small else w[:1].upper() + w[1:] for w in name.split())
    return flag_title(name), "flag"


def _pictogram(stem: str) -> tuple[str, str] | None:
    words = clean(re.sub(r"^aiga_", "", stem))
    words = words.replace("tickey", "ticket")
    if words.endswith("arrow"):
        return words, "arrow"
    if not re.fullmatch(r"[a-z ]{4,40}", words) or len(words.split()) > 4:
        return None
    words = re.sub(r" sign$", "", words)
    is_road = not stem.startswith("aiga_")
    if is_road and ("_r" in stem[-3:] or re.search(r"_\d\d$", stem)):
        return None  # contributed one by one, under names of authors
    return f"{words} {'road ' if is_road else ''}sign", "sign"


def _arrow(stem: str) -> tuple[str, str] | None:
    way = re.search(r"arrow[-_ ](up|down|left|right)", stem)
    colour = re.search(_COLOURS, stem)
    if way:
        title = f"arrow pointing {way.group(1)}"
        return (f"{colour.group(0)} {title}" if colour else title), "arrow"
    return ("arrow", "arrow") if re.match(r"arrow\d", stem) else None


def _card(stem: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"(?:simple)_([cdhs])_(\d+|[ajqk])", stem)
    if not match:
        return None
    suit, rank = match.groups()
    return f"{_RANKS.get(rank, rank)} of {_SUITS[suit]} playing card", "toy or game"


def _star(stem: str) -> tuple[str, str] | None:
    points = re.match(r"star_(\d+)pt", stem)
    if points is None or not 5 <= int(points.group(1)) <= _STAR_POINTS:
        return None
    return f"star with {int(points.group(1))} points", "shape"


def _share(stem: str) -> float:
    """Map a name to [0, 1), to take a fixed share of many pictures that are alike."""
    return int(hashlib.sha256(stem.encode()).hexdigest()[:8], 16) / 2**32


def _map(entry: Entry, *, is_collection: bool) -> tuple[str, str] | None:
    title = "" if is_collection else entry.title
    place = None
    if match := re.fullmatch(r"map of ([A-Z]\w+)", title, re.I):
        place = match.group(1).title()
    elif match := re.fullmatch(
        r"((?:new-|northern-|south-|western-)?[a-z]+)-(?:black|outline|shad\w+)(?:-.*)?", entry.stem
    ):
        place = match.group(1).replace("-", " ").title()
    elif re.match(r"world_map", entry.stem) or title == "Peters Map":
        return "map of the world", "map"
    return (f"map of {place}", "map") if place else None
