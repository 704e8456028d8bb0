"""Boxes in answers: from the model's notation to pixels, back, and onto the picture.

`<ref>the red cup</ref><box>[[x1, y1, x2, y2], ...]</box>`, whole numbers from 0 to 1000 relative to
the width and height of the upright original, never to a tile. A model writes what it likes, so
parsing never fails: what cannot be read is reported beside the boxes that can. One pass over the
text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tessera.errors import PromptError

SCALE = 1000
_MAX_BOXES = 1000  # of one answer; nothing a person would look at
_NUMBER = re.compile(r"[+-]?\d{1,9}(?:\.\d{0,9})?|[+-]?\.\d{1,9}", re.ASCII)
_LIST_START = re.compile(r"<box>|\[\[")
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#000075")

PixelBox = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside


@dataclass(frozen=True)
class Box:
    """One box in pixels of the upright original and the phrase it belongs to."""

    label: str
    pixels: PixelBox


@dataclass(frozen=True)
class Grounding:
    """What an answer points at, and what in it could not be read."""

    boxes: tuple[Box, ...]
    problems: tuple[str, ...] = ()


def parse_boxes(text: str, *, width: int, height: int) -> Grounding:
    """Read all boxes of an answer about a picture of this size.

    Also understood: `[[...]]` without tags (a decoder that skips special tokens leaves it so, the
    label is then the text before it), and numbers from 0 to 1, which the V1-2 data contains.
    """
    _check_size(width, height)
    boxes: list[Box] = []
    problems: list[str] = []
    position, label_start = 0, 0
    while (found := _next_list(text, position)) is not None:
        start, content, end, problem = found
        if problem:
            problems.append(problem)
        label = _label(text[label_start:start])
        for piece in content.split("]"):
            piece = piece.strip(" \t\r\n,[")
            if not piece:
                continue
            if len(boxes) + len(problems) >= _MAX_BOXES:
                break
            pixels, problem = _to_pixels(piece, width, height)
            if problem:
                problems.append(problem)
            if pixels is not None:
                boxes.append(Box(label, pixels))
        if len(boxes) + len(problems) >= _MAX_BOXES:
            problems.append(f"{_MAX_BOXES} boxes were read; the rest was left out")
            break
        position = label_start = end
    return Grounding(tuple(boxes), tuple(problems))


def _next_list(text: str, position: int) -> tuple[int, str, int, str] | None:
    """Find the next list of boxes: its start, its content, the offset behind it, what is wrong."""
    found = _LIST_START.search(text, position)
    if found is None:
        return None
    start, body = found.span()
    if found.group() == "<box>":
        next_tag = text.find("<", body)
        if next_tag >= 0 and text.startswith("</box>", next_tag):
            return start, text[body:next_tag], next_tag + len("</box>"), ""
        end = len(text) if next_tag < 0 else next_tag
        return start, text[body:end], end, "a <box> is not closed by </box>"
    end = text.find("]]", body)
    if end < 0:
        return start, text[body:], len(text), "a list of boxes is not closed by ]]"
    return start, text[body:end], end + 2, ""


def _label(before: str) -> str:
    """Take the phrase in front of a list of boxes."""
    start = before.rfind("<ref>")
    if start >= 0:
        phrase = before[start + len("<ref>") :]
        end = phrase.find("</ref>")
        return (phrase if end < 0 else phrase[:end]).strip()
    line = before.rsplit("\n", 1)[-1].replace("</box>", "").replace("</ref>", "")
    return line.strip(" \t\r,;:.`")


def _to_pixels(piece: str, width: int, height: int) -> tuple[PixelBox | None, str]:
    shown = piece if len(piece) <= 40 else piece[:40] + "..."
    words = [word.strip() for word in piece.split(",", 4)]
    if len(words) != 4 or not all(_NUMBER.fullmatch(word) for word in words):
        return None, f"[{shown}] is not four numbers"
    numbers = [float(word) for word in words]
    scale = 1.0 if sum(numbers) < 4 else float(SCALE)  # the published evaluation's rule
    problem = ""
    if min(numbers) < 0 or max(numbers) > scale:
        problem = f"[{shown}] reaches outside the picture and was cut"
        numbers = [min(max(number, 0.0), scale) for number in numbers]
    left, right = sorted((numbers[0] / scale * width, numbers[2] / scale * width))
    top, bottom = sorted((numbers[1] / scale * height, numbers[3] / scale * height))
    if left == right or top == bottom:
        return None, f"[{shown}] has no area"
    columns, rows = _whole(left, right, width), _whole(top, bottom, height)
    return (columns[0], rows[0], columns[1], rows[1]), problem


def _whole(start: float, end: float, size: int) -> tuple[int, int]:
    """Round an interval to pixels, at least one of them, inside 0..size."""
    first = min(round(start), size - 1)
    return first, min(max(round(end), first + 1), size)


def format_boxes(label: str, boxes: Sequence[PixelBox], *, width: int, height: int) -> str:
    """Write pixel boxes of one phrase in the model's notation, cut to the picture."""
    _check_size(width, height)
    written = []
    for box in boxes:
        if len(box) != 4 or not all(math.isfinite(value) for value in box):
            raise PromptError(f"the box {box!r} is not left, top, right, bottom in pixels")
        edges = zip(box, (width, height, width, height), strict=True)
        numbers = [min(max(round(value / size * SCALE), 0), SCALE) for value, size in edges]
        written.append("[" + ", ".join(map(str, numbers)) + "]")
    return f"<ref>{label}</ref><box>[{', '.join(written)}]</box>"


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PromptError(f"boxes need the picture's size in pixels, not {width} x {height}")


def draw_boxes(image: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """Draw boxes and their labels on a copy; phrases keep one colour each."""
    drawn = image.convert("RGB") if image.mode != "RGB" else image.copy()
    pencil = ImageDraw.Draw(drawn)
    line = max(2, round(min(drawn.size) / 200))
    font = ImageFont.load_default(size=max(12, min(drawn.size) // 40))
    colours: dict[str, str] = {}
    for box in boxes:
        colour = colours.setdefault(box.label, _COLOURS[len(colours) % len(_COLOURS)])
        left, top, right, bottom = _inside(box.pixels, drawn.size)
        pencil.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line)
        if label := _drawable(box.label, font):
            _draw_label(pencil, label, font=font, colour=colour, corner=(left, top))
    return drawn


def _inside(box: PixelBox, size: tuple[int, int]) -> PixelBox:
    left, right = sorted(min(max(round(value), 0), size[0]) for value in (box[0], box[2]))
    top, bottom = sorted(min(max(round(value), 0), size[1]) for value in (box[1], box[3]))
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _drawable(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a label to one line; without FreeType Pillow's font has Latin letters only."""
    label = "".join(letter if letter.isprintable() else " " for letter in label[:60]).strip()
    if isinstance(font, ImageFont.FreeTypeFont):
        return label
    return label.encode("latin-1", errors="replace").decode("latin-1")


def _draw_label(
    pencil: ImageDraw.ImageDraw,
    label: str,
    *,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: str,
    corner: tuple[int, int],
) -> None:
    left, top, right, bottom = pencil.textbbox((0, 0), label, font=font)
    width, height = round(right - left) + 4, round(bottom - top) + 4
    x, y = corner[0], corner[1] - height if corner[1] >= height else corner[1]
    pencil.rectangle((x, y, x + width, y + height), fill=colour)
    pencil.text((x + 2 - left, y + 2 - top), label, fill="white", font=font)
