"""Drawings of any of the sources' formats -> square PNG files that keep their transparency."""

import io
import re
from pathlib import Path

from PIL import Image

from tessera.data.sources.picture import Drawing
from tessera.errors import UserError

PICTURE_SIZE = 256
_DPI = 90  # of a size in points or millimetres, as the drawing programs of that time had it
_MIN_OPAQUE = 0.004  # of the square; below, nothing was drawn


def render(drawing: Drawing, path: Path) -> bool:
    """Write a drawing as PNG; return False, writing nothing, if it is blank or cannot be drawn."""
    try:
        picture = _open(drawing.content)
    except (ValueError, OSError):
        return False
    picture = _fit(picture)
    if _is_blank(picture):
        return False
    partial = path.with_suffix(".part")
    picture.save(partial, format="PNG")
    partial.replace(path)
    return True


def _open(content: bytes) -> Image.Image:
    if content[:2] == b"\x1f\x8b" or b"<svg" in content[:20000]:
        return _rasterise(content.decode("utf-8", errors="replace"))
    return Image.open(io.BytesIO(content)).convert("RGBA")


def _rasterise(svg: str) -> Image.Image:
    try:
        import resvg_py
    except ImportError:
        raise UserError(
            "rendering SVG pictures needs the package resvg-py: pip install 'tessera-vl[data]'"
        ) from None
    if re.search(r"<(image|text)\b", svg):  # photographs, and letters in whatever font is here
        raise ValueError("embedded raster image or text")
    size = 2 * PICTURE_SIZE  # longer side; reduced below, which also smooths thin lines
    width, height = _svg_size(svg)
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        skip_system_fonts=True,
        dpi=_DPI,
        width=size if width >= height else None,
        height=None if width >= height else size,
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _svg_size(svg: str) -> tuple[float, float]:
    tag = re.search(r"<svg\b[^>]*>", svg, re.S)
    text = tag.group(0) if tag else ""
    sides = [re.search(rf'\s{side}\s*=\s*"\s*([\d.]+)', text) for side in ("width", "height")]
    if sides[0] and sides[1] and "%" not in text[sides[0].start() : sides[0].end() + 1]:
        return float(sides[0].group(1)) or 1.0, float(sides[1].group(1)) or 1.0
    box = re.search(r'viewBox\s*=\s*"([^"]*)"', text)
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", box.group(1))] if box else []
    return (numbers[2], numbers[3]) if len(numbers) == 4 else (1.0, 1.0)


def _fit(picture: Image.Image) -> Image.Image:
    """Crop transparent margins, keep the proportions and centre on a transparent square."""
    box = picture.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        return Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE))
    picture = picture.crop(box)
    inner = PICTURE_SIZE - 16
    scale = inner / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE))
    square.paste(picture, ((PICTURE_SIZE - size[0]) // 2, (PICTURE_SIZE - size[1]) // 2))
    return square


def _is_blank(picture: Image.Image) -> bool:
    alpha = picture.getchannel("A")
    opaque = sum(alpha.histogram()[32:])
    if opaque < _MIN_OPAQUE * PICTURE_SIZE**2:
        return True
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    low, high = white.convert("L").getextrema()
    return high - low < 16  # type: ignore[operator]
