"""What the drawn pictures share: fonts by file name, gradients, shadows and grain."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageFont

Colour = tuple[int, int, int]


class Fonts:
    """Fonts of Debian packages, found by file name below one folder."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            path.name: path
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".otf", ".ttf", ".ttc")
        }

    def get(self, name: str, size: float) -> ImageFont.FreeTypeFont:
        # Face 2 of the CJK collections is the one for simplified Chinese.
        index = 2 if name.endswith(".ttc") else 0
        layout = ImageFont.Layout.BASIC  # the same with and without libraqm
        return ImageFont.truetype(self._files[name], size, index=index, layout_engine=layout)


def gradient(size: tuple[int, int], stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """Return a vertical gradient through `stops` (share of the height, colour)."""
    rows = np.linspace(0.0, 1.0, size[1])
    heights = [stop[0] for stop in stops]
    channels = [np.interp(rows, heights, [stop[1][c] for stop in stops]) for c in range(3)]
    column = np.stack(channels, axis=-1)[:, None, :]
    return Image.fromarray(np.repeat(column, size[0], axis=1).round().astype(np.uint8))


def grain(image: Image.Image, *, strength: float, seed: int) -> Image.Image:
    """Add the fine noise that a camera leaves."""
    noise = np.random.default_rng(seed).normal(0.0, strength, (image.height, image.width, 1))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) + noise
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def drop_shadow(
    canvas: Image.Image, sheet: Image.Image, at: tuple[int, int], *, blur: float, opacity: int
) -> None:
    """Paste an RGBA sheet with a soft shadow below it."""
    alpha = Image.new("L", canvas.size)
    alpha.paste(sheet.getchannel("A"), (at[0] + int(blur / 2), at[1] + int(blur)))
    alpha = alpha.filter(ImageFilter.GaussianBlur(blur)).point(lambda a: a * opacity // 255)
    canvas.paste((20, 16, 12), (0, 0), alpha)
    canvas.paste(sheet, at, sheet)


def wood(size: tuple[int, int], *, seed: int) -> Image.Image:
    """Return a table top of brown boards."""
    width, height = size
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.normal(0.0, 1.0, height))
    rows = rows - np.linspace(0.0, rows[-1], height)
    fibres = rng.normal(0.0, 1.0, (height, max(2, width // 60)))
    texture = Image.fromarray((fibres * 30 + 128).clip(0, 255).astype(np.uint8))
    texture = texture.resize(size, Image.Resampling.BICUBIC)
    light = np.asarray(texture, dtype=np.float32)[..., None] * 0.16 + rows[:, None, None] * 0.35
    board = np.array([104, 70, 44], dtype=np.float32) + light - 14
    for top in range(0, height, height // 5):
        board[top : top + 3] *= 0.55
    return Image.fromarray(board.clip(0, 255).astype(np.uint8))


def jittered(seed: int) -> random.Random:
    return random.Random(seed)
