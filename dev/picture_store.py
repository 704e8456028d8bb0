"""Pictures as the default model's training reads them, and what frozen blocks made of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tessera.models.vision import VisionEncoder
from tessera.processing.tiling import normalise

TILE = 224
SHARE = 0.94  # of a tile's side that a cut-out takes


def place(picture: Image.Image) -> np.ndarray:
    """Put a cut-out on white, centred; uint8 [TILE, TILE, 3]."""
    rgba = picture.convert("RGBA")
    factor = TILE * SHARE / max(rgba.size)
    size = tuple(max(1, round(side * factor)) for side in rgba.size)
    rgba = rgba.resize(size, Image.Resampling.BICUBIC)
    corner = ((TILE - rgba.width) // 2, (TILE - rgba.height) // 2)
    canvas = Image.new("RGB", (TILE, TILE), (255, 255, 255))
    canvas.paste(rgba, corner, rgba)
    return np.asarray(canvas)


class FeatureStore:
    """One array a picture in float16, append-only, so a killed run goes on."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data, self.index = folder / f"{name}.f16", folder / f"{name}.names"
        self.shape = shape
        lines = self.index.read_text() if self.index.exists() else ""
        self.names = lines[: lines.rfind("\n") + 1].split()  # a killed run may leave half a name
        if lines and not lines.endswith("\n"):
            self.index.write_text("".join(f"{name}\n" for name in self.names))

    def append(self, names: Sequence[str], features: np.ndarray) -> None:
        """Write features first and names second, so that a name always has its features."""
        size = len(self.names) * math.prod(self.shape) * 2
        with self.data.open("ab") as file:
            file.truncate(size)
            file.write(features.astype(np.float16).tobytes())
        with self.index.open("a") as file:
            file.write("".join(f"{name}\n" for name in names))
        self.names += names

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Find the rows of these pictures."""
        row_of = {name: row for row, name in enumerate(self.names)}
        return np.array([row_of[name] for name in names])

    def array(self) -> np.ndarray:
        """Map everything, [pictures, *shape]."""
        return np.memmap(self.data, np.float16, "r", shape=(len(self.names), *self.shape))


def fill(
    store: FeatureStore,
    names: Sequence[str],
    compute: Callable[[list[str]], torch.Tensor],
    *,
    batch: int = 32,
) -> None:
    """Compute what the store does not have yet, and say how fast it goes."""
    known = set(store.names)
    todo = [name for name in names if name not in known]
    start = time.time()
    for first in range(0, len(todo), batch):
        some = todo[first : first + batch]
        with torch.inference_mode():
            store.append(some, compute(some).numpy())
        if first // batch % 20 == 0:
            done = first + len(some)
            rate = done / (time.time() - start)
            print(f"{store.data.stem}: {done}/{len(todo)}, {rate:.1f} a second", flush=True)


def run_frozen(vision: VisionEncoder, paths: Sequence[Path], num_blocks: int) -> torch.Tensor:
    """Run the first blocks on pictures of files: [N, 1 + P, D], class token first."""
    tiles = np.stack([place(Image.open(path)) for path in paths])
    return vision(normalise(tiles), num_blocks)
