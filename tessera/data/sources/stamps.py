"""Stamps of Tux Paint: photographs and drawings with a sentence each, under the GPL.

They are test material: a set that no trained weight has seen, in other styles than emoji and clip
art. Titles are taken from captions of the form "A red apple."; kinds from their folders.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tessera.data.sources.fetch import Package, fetch, members
from tessera.data.sources.picture import Drawing
from tessera.data.sources.titles import concept_key, slug

PACKAGE = Package(
    registry="debian",
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    licence="GPL-2.0-only",
)
HAND = "tuxpaint"

# Folder prefix -> kind; the longest prefix counts. Folders that are not here are left out.
_KINDS = {
    "animals/birds": "bird",
    "animals/dinosaur": "reptile",
    "animals/lizards": "reptile",
    "animals/amphibians": "reptile",
    "animals/fish": "sea animal",
    "animals/insects": "bug",
    "animals/mammals": "mammal",
    "animals/mammals/aquatic": "sea animal",
    "animals/mammals/bears/toys": "toy or game",
    "animals/marsupials": "mammal",
    "animals/shellfish": "sea animal",
    "clothes": "piece of clothing",
    "food/dessert": "sweet",
    "food/fruit": "fruit",
    "food/nuts": "fruit",
    "food/vegetables": "vegetable",
    "hobbies/music": "musical instrument",
    "household/dishes": "household thing",
    "household/arttools": "stationery item",
    "household/electronics": "electronic device",
    "household/tools": "tool",
    "people": "person",
    "people/body_parts": "part of the body",
    "plants/flowers": "flower",
    "plants/mushrooms": "plant",
    "plants/trees": "plant",
    "space/moon": "thing in the sky",
    "space/planets": "thing in the sky",
    "symbols/alphabets/english/filled/uppercase": "letter or number",
    "symbols/money": "money",
    "town/flags": "flag",
    "town/houses": "building",
    "town/roadsigns": "sign",
    "vehicles": "land vehicle",
    "vehicles/flight": "aircraft",
    "vehicles/ship": "boat",
}
_CAPTION = re.compile(r"(?:An?|The|Our)\s+(?:pair of )?([^.!?“”(),;—–]{2,40})\.?\s*$")


def drawings(cache: Path) -> Iterator[Drawing]:
    """Yield the stamps whose caption names one thing of a known kind."""
    archive = fetch(PACKAGE, cache)
    captions = {
        _key(name): text.decode("utf-8", errors="replace")
        for name, text in members(archive, suffixes=(".txt",))
        if "/stamps/" in name
    }
    done: set[str] = set()
    for name, content in members(archive, suffixes=(".png", ".svg")):
        key = _key(name)
        caption = parse_caption(captions.get(key, ""))
        kind = _kind(key)
        if caption is None or kind is None or key in done:
            continue
        done.add(key)
        title, title_zh = caption
        yield Drawing(
            name=f"{HAND}-{slug(key)}",
            content=content,
            concept=concept_key(title),
            title=title,
            title_zh=title_zh,
            kind=kind,
            hand=HAND,
            source=PACKAGE.label,
            licence=PACKAGE.licence,
            trainable=False,
        )


def parse_caption(text: str) -> tuple[str, str | None] | None:
    """Return English and Chinese title of a stamp's text file; None if it is no plain caption."""
    lines = text.splitlines()
    match = _CAPTION.match(lines[0]) if lines else None
    if match is None:
        return None
    chinese = [line.partition("=")[2] for line in lines if line.startswith("zh_CN")]
    title_zh = re.sub(r"^一[个只条朵棵辆把张件双匹头架艘顶]", "", chinese[0]) if chinese else ""
    title_zh = title_zh.rstrip("。.！")
    return match.group(1).strip(), title_zh or None


def _key(name: str) -> str:
    """Return the path below stamps/ without its suffix."""
    path = PurePosixPath(name.partition("/stamps/")[2])
    return path.with_suffix("").as_posix() if path.name else ""


def _kind(key: str) -> str | None:
    prefixes = [prefix for prefix in _KINDS if key.startswith(f"{prefix}/")]
    return _KINDS[max(prefixes, key=len)] if prefixes else None
