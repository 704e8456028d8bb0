"""Pixel shuffle and MLP: patches to visual tokens (arXiv 2404.16821 section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tessera.errors import ConfigError


def pixel_shuffle(grid_TYXD: Tensor, *, factor: int = 2, version: str = "v2") -> Tensor:
    """Fold blocks of factor x factor patches into the channels.

        a b | c d          v2, row by row:     [a b e f] [c d g h] ...
        e f | g h          v1, down columns:   the same tokens, the grid transposed
        ----+----          channels inside a token: row by row of the block
        ...

    Args:
        grid_TYXD: patch features.
        factor: patches per side of a block; divides rows and columns.
        version: `v2` reads the blocks by rows, `v1` (models before 1.5) by columns.

    Returns:
        [T, S, factor * factor * D], S = rows * columns / factor**2.

    Raises:
        ConfigError: rows or columns are no multiple of the factor.
    """
    tiles, rows, columns, width = grid_TYXD.shape
    if rows % factor or columns % factor:
        raise ConfigError(
            f"cannot shuffle a {rows} x {columns} grid by {factor}: sides must divide"
        )
    blocks = grid_TYXD.reshape(tiles, rows // factor, factor, columns // factor, factor, width)
    order = (0, 1, 3, 2, 4, 5) if version == "v2" else (0, 3, 1, 2, 4, 5)
    return blocks.permute(order).reshape(tiles, -1, factor * factor * width)


class Projector(nn.Module):
    """LayerNorm, linear, exact GELU, linear: vision width x factor**2 to the decoder's width."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_width)
        self.up = nn.Linear(in_width, out_width)
        self.down = nn.Linear(out_width, out_width)

    def forward(self, shuffled_TSD: Tensor) -> Tensor:
        """Project shuffled patches to visual tokens."""
        return self.down(F.gelu(self.up(self.norm(shuffled_TSD))))
