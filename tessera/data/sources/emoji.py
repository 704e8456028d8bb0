"""The emoji of several vendors: the same things drawn by different hands.

Names (English and Chinese), groups and subgroups come from emojibase-data, which repeats
Unicode CLDR. Skin-tone variants and mirrored variants are left out; people drawn as man, woman
and person share a concept.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.data.sources.emoji_kinds import emoji_kind
from tessera.data.sources.fetch import Package, fetch, read_json
from tessera.data.sources.picture import Drawing
from tessera.data.sources.titles import concept_key, flag_title, slug

LABELS = Package(
    registry="npm",
    name="emojibase-data",
    version="17.0.0",
    sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    licence="MIT",
)
# Drawn with conditions on nothing but credit: Apache-2.0, MIT and CC-BY.
HANDS: dict[str, Package] = {
    hand: Package(registry="npm", name=name, version=version, sha256=sha256, licence=licence)
    for hand, name, version, licence, sha256 in (
        ("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0",
         "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
        ("noto-v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0",
         "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
        ("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0",
         "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
        ("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT",
         "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
        ("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT",
         "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"),
        ("emojione", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0",
         "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
        ("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0",
         "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
        ("streamline", "@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0",
         "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc"),
    )
}  # fmt: skip


# CLDR labels that do not name what is seen, or are no noun phrases.
_TITLES = {
    "palms up together": "two palms up together",
    "index pointing up": "index finger pointing up",
    "index pointing at the viewer": "index finger pointing at the viewer",
    "backhand index pointing up": "back of a hand with its index finger pointing up",
    "backhand index pointing down": "back of a hand with its index finger pointing down",
    "backhand index pointing left": "back of a hand with its index finger pointing left",
    "backhand index pointing right": "back of a hand with its index finger pointing right",
    "horse racing": "horse race",
    "hourglass not done": "hourglass with flowing sand",
    "hourglass done": "hourglass",
    "globe showing Americas": "globe showing the Americas",
    "headphone": "headphones",
    "cooking": "fried egg in a pan",
    "locked": "closed padlock",
    "unlocked": "open padlock",
    "locked with key": "padlock with a key",
    "locked with pen": "padlock with a pen",
    "chart increasing": "rising chart",
    "chart decreasing": "falling chart",
    "infinity": "infinity sign",
    "rolling on the floor laughing": "face rolling on the floor laughing",
    "star-struck": "star-struck face",
    "hundred points": "number 100",
    "circled M": "letter M in a circle",
    "information": "information sign",
    "breast-feeding": "mother feeding a baby",
    "construction": "construction barrier",
    "sushi": "plate of sushi",
    "camping": "camping tent",
    "bowling": "bowling ball and pins",
    "ping pong": "ping pong paddle and ball",
    "badminton": "badminton racket and shuttlecock",
    "tennis": "tennis racket and ball",
    "field hockey": "field hockey stick and ball",
    "ice hockey": "ice hockey stick and puck",
    "cricket game": "cricket bat and ball",
    "lacrosse": "lacrosse stick",
    "fireworks": "fireworks in the night sky",
    "baseball": "baseball ball",
    "basketball": "basketball ball",
    "volleyball": "volleyball ball",
    "american football": "American football ball",
    "rugby football": "rugby ball",
    "softball": "softball ball",
    "pool 8 ball": "billiard ball with the number 8",
    "sunrise": "sunrise over the sea",
    "heart suit": "heart of a card game",
    "spade suit": "spade of a card game",
    "diamond suit": "diamond of a card game",
    "club suit": "club of a card game",
    "sunset": "sunset behind buildings",
    "high voltage": "high voltage sign",
    "men's room": "men's room sign",
    "women's room": "women's room sign",
    "wavy dash": "wavy dash sign",
    "hair pick": "comb for the hair",
    "cinema": "cinema sign",
}


@dataclass(frozen=True, kw_only=True)
class Label:
    """What an emoji is called and which kind of thing it shows."""

    code: str
    cldr: str
    title: str
    title_zh: str | None
    concept: str
    kind: str


def drawings(cache: Path, *, hands: tuple[str, ...] | None = None) -> Iterator[Drawing]:
    """Yield every emoji of the given hands (default: all) that has a label and a kind."""
    archive = fetch(LABELS, cache)
    labels = read_labels(archive)
    names = name_table(labels, read_json(archive, "meta/unicode-names.json"))
    for hand in hands or tuple(HANDS):
        package = HANDS[hand]
        archive = fetch(package, cache)
        found = _webp_files(archive) if hand == "fluent-3d" else _icons(archive, names)
        done: set[str] = set()
        for code, content in found:
            if code not in labels or code in done:
                continue
            done.add(code)
            label = labels[code]
            # The Fluent set has no country flags; its packager filled in those of Noto.
            artist = "noto" if hand == "fluent-3d" and _is_country(code) else hand
            yield Drawing(
                name=f"{artist}-{code}",
                content=content,
                concept=label.concept,
                title=label.title,
                title_zh=label.title_zh,
                kind=label.kind,
                hand=artist,
                source=package.label,
                licence=HANDS[artist].licence,
                trainable=True,
            )


def read_labels(archive: Path) -> dict[str, Label]:
    """Read emojibase-data: code points -> label, of those that have a kind."""
    english = read_json(archive, "en/data.json")
    chinese = {e["hexcode"]: e["label"] for e in read_json(archive, "zh/data.json")}
    subgroups = read_json(archive, "meta/groups.json")["subgroups"]
    labels = {}
    for entry in english:
        label = _label(entry, chinese.get(entry["hexcode"]), subgroups)
        if label is not None:
            labels[label.code] = label
    return labels


def _label(entry: dict[str, Any], chinese: str | None, subgroups: dict[str, str]) -> Label | None:
    cldr = entry["label"]
    if "subgroup" not in entry or "facing right" in cldr:
        return None
    subgroup = subgroups[str(entry["subgroup"])]
    kind = emoji_kind(cldr, subgroup)
    title = emoji_title(cldr, subgroup)
    if kind is None or title is None:
        return None
    concept = concept_key(title)
    if kind == "person":
        concept = re.sub(r"^(man|woman|person|boy|girl|men|women|people) (?=\w)", "", concept)
    if subgroup.startswith("animal"):
        concept = concept.removesuffix(" face")
    return Label(
        code=_code(entry["hexcode"]),
        cldr=cldr,
        title=title,
        title_zh=_chinese_title(chinese),
        concept=concept,
        kind=kind,
    )


def emoji_title(cldr: str, subgroup: str) -> str | None:
    """Turn a CLDR label into a noun phrase; None for variants that are left out."""
    label = cldr.replace("’", "'").replace("“", "").replace("”", "")
    if match := re.fullmatch(r"flag: (.+)", label):
        return flag_title(match.group(1))
    if match := re.fullmatch(r"keycap: (.+)", label):
        name = {"#": "hash sign", "*": "asterisk"}.get(match.group(1), f"number {match.group(1)}")
        return f"{name} on a key"
    if match := re.fullmatch(r"(\w+): (.+)", label):
        who, what = match.groups()
        if who in ("man", "woman", "person"):
            return f"bald {who}" if what == "bald" else f"{who} with {_a_beard(what)}"
        return None
    if ":" in label:
        return None
    if match := re.fullmatch(r"([A-Z]{1,4})!? button(?: \(blood type\))?", label):
        letters = match.group(1)
        return f"letter{'s' if len(letters) > 1 else ''} {letters} on a button"
    return _TITLES.get(label) or _sign_title(label, subgroup)


def _a_beard(what: str) -> str:
    return "a beard" if what == "beard" else what


def _sign_title(label: str, subgroup: str) -> str:
    ends_well = label.endswith(("sign", "symbol", "button", "room", "mark", "circle", "star"))
    if label in ("copyright", "registered", "trade mark", "plus", "minus", "divide", "multiply"):
        return {"divide": "division", "multiply": "multiplication"}.get(label, label) + " sign"
    if (
        subgroup in ("transport-sign", "warning", "zodiac", "religion", "av-symbol")
        and not ends_well
    ):
        return f"{label} sign"
    return label


def _chinese_title(label: str | None) -> str | None:
    if label is None:
        return None
    match = re.fullmatch(r"旗[:：]\s*(.+)", label)
    return f"{match.group(1)}的旗帜" if match else label


def name_table(labels: dict[str, Label], unicode_names: dict[str, str]) -> dict[str, str]:
    """Return icon name -> code points, by CLDR labels and, where free, by older Unicode names.

    Names are compared without hyphens, because some vendors leave them out.
    """
    table: dict[str, str] = {}
    for code, label in labels.items():
        table.setdefault(_squash(label.cldr), code)
        table.setdefault(_squash(label.title), code)
    for hexcode, name in unicode_names.items():
        code = _code(hexcode)
        if code in labels:
            table.setdefault(_squash(str(name)), code)
    return table


def _icons(archive: Path, names: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield code points and SVG of an Iconify set; its own code table goes before the names."""
    icons = read_json(archive, "icons.json")
    codes = {name: _code(char) for char, name in read_json(archive, "chars.json").items()}
    for name, icon in icons["icons"].items():
        code = codes.get(name) or icon_code(name, names)
        if code is not None:
            yield code, _svg(icon, icons)
    for name, alias in icons.get("aliases", {}).items():
        if set(alias) == {"parent"} and name in codes and alias["parent"] in icons["icons"]:
            yield codes[name], _svg(icons["icons"][alias["parent"]], icons)


def icon_code(name: str, names: dict[str, str]) -> str | None:
    """Find the code points that an icon's name stands for; "" is never returned."""
    plain = re.sub(r"^flag-for-(flag-)?", "flag-", name)
    plain = re.sub(r"-(\d)$", "", plain)
    return names.get(_squash(plain)) or names.get(_squash(f"{plain}-face"))


def _svg(icon: dict[str, Any], icons: dict[str, Any]) -> bytes:
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{box}">{icon["body"]}</svg>'
    ).encode()


def _webp_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.name.endswith(".webp"):
                stream = tar.extractfile(entry)
                assert stream is not None, entry.name
                yield _code(Path(entry.name).stem), stream.read()


def _code(hexcode: str) -> str:
    """Normalise code points: lower case, joined by hyphens, without variation selectors."""
    parts = re.split(r"[-_ ]", hexcode.lower())
    return "-".join(part for part in parts if part != "fe0f")


def _is_country(code: str) -> bool:
    return code.startswith(("1f1e", "1f1f", "1f3f4-e00"))


def _squash(name: str) -> str:
    return slug(name).replace("-", "")
