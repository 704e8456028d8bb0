"""A picture becomes tiles of one size, and a thumbnail of the whole behind them.

The dynamic tiling of InternVL-Chat 1.5 (arXiv 2404.16821 section 3.2), with Pillow's bicubic:

    800 x 1300, at most 6 tiles -> grid 2 x 3      +---+---+
                                                   | 0 | 1 |
    the aspect ratio is not kept, nothing is       +---+---+
    padded; tiles run left to right, top to        | 2 | 3 |   then 6 = the whole picture
    bottom                                         +---+---+   as one tile
                                                   | 4 | 5 |
                                                   +---+---+
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tessera.config import ModelConfig
from tessera.errors import ConfigError, ImageError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@lru_cache(maxsize=64)
def candidate_grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """List every (columns, rows) with min_tiles <= columns * rows <= max_tiles, smallest first.

    The order among grids of equal area is that of their columns. The published code leaves it to a
    Python set; it decides nothing when min_tiles is 1.
    """
    if not 1 <= min_tiles <= max_tiles:
        raise ConfigError(
            f"tiles must satisfy 1 <= min <= max, not min {min_tiles} and max {max_tiles};"
            " change min_tiles or max_tiles"
        )
    grids = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // columns + 1)
        if columns * rows >= min_tiles
    ]
    return tuple(sorted(grids, key=lambda grid: (grid[0] * grid[1], grid[0])))


def choose_grid(
    width: int, height: int, *, min_tiles: int, max_tiles: int, tile_size: int
) -> tuple[int, int]:
    """Choose (columns, rows) for a picture of this size in pixels.

    The grid whose ratio is nearest to the picture's wins. Of two equally near ones the larger is
    taken only if the picture has more than half of its pixels.
    """
    if width < 1 or height < 1:
        raise ImageError(f"a picture of {width} x {height} pixels has nothing to cut into tiles")
    ratio = width / height
    best, best_distance = (1, 1), float("inf")
    for columns, rows in candidate_grids(min_tiles, max_tiles):
        distance = abs(ratio - columns / rows)
        is_filled = width * height > 0.5 * tile_size * tile_size * columns * rows
        if distance < best_distance or (distance == best_distance and is_filled):
            best, best_distance = (columns, rows), distance
    return best


def tile_limits(config: ModelConfig, max_tiles: int | None = None) -> tuple[int, int]:
    """Return the least and the most tiles of a picture; None takes the model's own limit."""
    most = (max_tiles or config.max_tiles) if config.dynamic_tiling else 1
    return min(config.min_tiles, most), most


def plan_grid(
    config: ModelConfig, size: tuple[int, int], *, max_tiles: int | None = None
) -> tuple[int, int]:
    """Choose (columns, rows) for a picture of `size` pixels as this model takes it."""
    width, height = (max(size), max(size)) if config.pad_to_square else size
    least, most = tile_limits(config, max_tiles)
    return choose_grid(width, height, min_tiles=least, max_tiles=most, tile_size=config.tile_size)


def count_tiles(grid: tuple[int, int], *, use_thumbnail: bool) -> int:
    """Count the tiles of a grid, the thumbnail included; a single tile needs none."""
    count = grid[0] * grid[1]
    return count + 1 if use_thumbnail and count != 1 else count


def cut(
    image: Image.Image, *, tile_size: int, min_tiles: int, max_tiles: int, use_thumbnail: bool
) -> np.ndarray:
    """Cut an RGB picture into uint8 tiles [T, tile_size, tile_size, 3], the thumbnail last.

    Pillow resizes rows first, so in between it needs columns * tile_size * height pixels: about
    120 MB for the longest picture that `ImageLimits` lets in, whatever its width.
    """
    if image.mode != "RGB":
        raise ImageError(
            f"a picture of mode {image.mode} cannot be cut; open it with open_image first"
        )
    columns, rows = choose_grid(
        image.width, image.height, min_tiles=min_tiles, max_tiles=max_tiles, tile_size=tile_size
    )
    num_tiles = count_tiles((columns, rows), use_thumbnail=use_thumbnail)
    tiles = np.empty((num_tiles, tile_size, tile_size, 3), dtype=np.uint8)
    whole = np.asarray(_resize(image, columns * tile_size, rows * tile_size))
    by_cell = whole.reshape(rows, tile_size, columns, tile_size, 3).swapaxes(1, 2)
    tiles[: columns * rows].reshape(rows, columns, tile_size, tile_size, 3)[...] = by_cell
    if num_tiles > columns * rows:
        tiles[-1] = np.asarray(_resize(image, tile_size, tile_size))
    return tiles


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC)


def normalise(tiles: np.ndarray) -> torch.Tensor:
    """Turn uint8 tiles [T, S, S, 3] into float32 pixels [T, 3, S, S] with ImageNet mean and std."""
    import torch

    num_tiles, rows, columns, channels = tiles.shape
    pixels_TCYX = torch.empty(num_tiles, channels, rows, columns)
    pixels_TCYX.copy_(torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2))
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return pixels_TCYX.div_(255).sub_(mean).div_(std)


def pad_to_square(image: Image.Image) -> Image.Image:
    """Centre an RGB picture on a square of the ImageNet mean colour (`pad2square` of 1.0)."""
    if image.width == image.height:
        return image
    side = max(image.size)
    colour = tuple(int(255 * mean) for mean in IMAGENET_MEAN)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
