"""What training may see, and what is kept from it.

Concepts are held out by a hash of their key, so the same concept is held out whoever drew it and
whatever else is in the set; one whole hand is held out besides, to ask whether a known thing is
recognised in a style never seen.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from tessera.data.sources.picture import CaptionedPicture
from tessera.errors import UserError

Split = Literal["train", "held-out concept", "held-out hand", "test material"]

# Chosen, before any training, so that 38 of the kinds have three held-out concepts or more.
HELD_OUT_SEED = 217
HELD_OUT_SHARE = 0.12
HELD_OUT_HAND = "emojione"
SIXTY_SEED = 60
SIXTY_KINDS = 20
SIXTY_PER_KIND = 3
SIXTY_FILE = Path(__file__).with_name("sixty.json")


def split(picture: CaptionedPicture, *, seed: int = HELD_OUT_SEED) -> Split:
    """Tell what a picture is for; "test material" is what the licence keeps from training.

    A held-out concept goes before a held-out hand: "held-out hand" means a concept that training
    knows from other hands.
    """
    if not picture.trainable:
        return "test material"
    if is_held_out(picture.concept, seed=seed):
        return "held-out concept"
    return "held-out hand" if picture.hand == HELD_OUT_HAND else "train"


def is_held_out(concept: str, *, seed: int = HELD_OUT_SEED) -> bool:
    """Tell whether a concept is among the share that training never sees."""
    return _hash(f"{seed}:{concept}") < HELD_OUT_SHARE


def draw_sixty(pictures: Iterable[CaptionedPicture]) -> list[CaptionedPicture]:
    """Draw the sixty: 3 held-out concepts of each of 20 kinds, one picture each, by a fixed seed.

    The kinds are those with the most held-out concepts; the draw does not depend on the order of
    the pictures.
    """
    by_kind: dict[str, dict[str, list[CaptionedPicture]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        if split(picture) == "held-out concept":
            by_kind[picture.kind][picture.concept].append(picture)
    kinds = sorted(by_kind, key=lambda kind: (-len(by_kind[kind]), kind))[:SIXTY_KINDS]
    drawn = []
    for kind in sorted(kinds):
        concepts = by_kind[kind]
        chosen = sorted(concepts, key=lambda c: _hash(f"{SIXTY_SEED}:{c}"))[:SIXTY_PER_KIND]
        for concept in chosen:
            drawn.append(min(concepts[concept], key=lambda p: _hash(f"{SIXTY_SEED}:{p.path.name}")))
    return drawn


def write_sixty(pictures: Sequence[CaptionedPicture], path: Path = SIXTY_FILE) -> None:
    """Write the list of the sixty with the hash of each picture's bytes."""
    records = [
        {
            "concept": picture.concept,
            "hand": picture.hand,
            "kind": picture.kind,
            "title": picture.title,
            "file": picture.path.name,
            "sha256": hashlib.sha256(picture.path.read_bytes()).hexdigest(),
        }
        for picture in pictures
    ]
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_sixty(
    pictures: Iterable[CaptionedPicture], path: Path = SIXTY_FILE
) -> list[CaptionedPicture]:
    """Return the committed sixty from among built pictures.

    Raises:
        UserError: one of them is missing from `pictures` or its caption has changed.
    """
    built = {picture.path.name: picture for picture in pictures}
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    chosen = []
    for record in records:
        picture = built.get(record["file"])
        if picture is None or picture.title != record["title"] or picture.kind != record["kind"]:
            raise UserError(
                f"{path.name}: {record['file']} ({record['title']}) is not among the built "
                "pictures; build all sources again"
            )
        chosen.append(picture)
    return chosen


def _hash(text: str) -> float:
    """Map a string to [0, 1), the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
