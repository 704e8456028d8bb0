"""Linears and embeddings whose weights are integers with scales; dequantised in `forward`.

`Int8Linear`: one scale a row, symmetric. `Int4Linear`: one scale for each `GROUP` weights of a row,
as llama.cpp's Q4_0: the largest weight of a group becomes exactly -8 steps.

    weight row  [ w0 .. w63 | w64 .. w127 | .. ]    int4: a scale a group
    scale       [    s0     |     s1      | .. ]    int8: one for all of them

Letters besides the usual: O outputs, I inputs, H bytes of two inputs, K groups of a row. These are
the reference and what gradients can flow through; `engine/kernels.py` computes the same
products with integer instructions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 64  # int4 weights that share a scale
# Of int8 weights, on each side of 0. Processors without VNNI add two products of an unsigned and a
# signed byte in 16 bits, which more levels would overflow: 2 * 255 * 64 < 2**15.
LEVELS = 64
_CHUNK = 1 << 22  # weights quantised at once, so that large matrices need no large copies


class QuantizedLinear(nn.Module, ABC):
    """y = x W^T + b with a weight that is dequantised for each use."""

    bias_O: Tensor | None

    def __init__(self, bias_O: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("bias_O", bias_O)

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """Input and output width."""

    @abstractmethod
    def weight(self) -> Tensor:
        """Dequantise the whole matrix, [O, I] in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to the last axis."""
        bias = None if self.bias_O is None else self.bias_O.to(x.dtype)
        return F.linear(x, self.weight().to(x.dtype), bias)


class Int8Linear(QuantizedLinear):
    """W = levels x scale of the row."""

    levels_OI: Tensor
    scale_O: Tensor

    def __init__(self, levels_OI: Tensor, scale_O: Tensor, bias_O: Tensor | None) -> None:
        super().__init__(bias_O)
        self.register_buffer("levels_OI", levels_OI)
        self.register_buffer("scale_O", scale_O)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """Quantise a linear."""
        return cls(*quantise_rows(linear.weight.detach()), _bias_of(linear))

    @property
    def widths(self) -> tuple[int, int]:
        """Input and output width."""
        return self.levels_OI.shape[1], self.levels_OI.shape[0]

    def weight(self) -> Tensor:
        """Dequantise the whole matrix, [O, I] in float32."""
        return self.levels_OI.float() * self.scale_O[:, None]


class Int4Linear(QuantizedLinear):
    """W = (nibble - 8) x scale of the group; the first of two weights is in the low nibble."""

    nibbles_OH: Tensor
    scale_OK: Tensor

    def __init__(self, nibbles_OH: Tensor, scale_OK: Tensor, bias_O: Tensor | None) -> None:
        super().__init__(bias_O)
        self.register_buffer("nibbles_OH", nibbles_OH)
        self.register_buffer("scale_OK", scale_OK)

    @classmethod
    def of(cls, linear: nn.Linear) -> Int4Linear:
        """Quantise a linear whose input width is a multiple of `GROUP`."""
        weight_OI = linear.weight.detach()
        assert weight_OI.shape[1] % GROUP == 0, weight_OI.shape
        nibbles, scales = [], []
        for rows_OI in weight_OI.split(max(1, _CHUNK // weight_OI.shape[1])):
            groups_OKI = rows_OI.float().unflatten(1, (-1, GROUP))
            extreme = groups_OKI.gather(2, groups_OKI.abs().argmax(2, keepdim=True))
            step = extreme / -8
            inverse = torch.where(step == 0, 0.0, 1 / step)
            levels = (groups_OKI * inverse + 8).round().clamp(0, 15).to(torch.uint8).flatten(1)
            nibbles.append(levels[:, 0::2] | levels[:, 1::2] << 4)
            scales.append(step[..., 0])
        return cls(torch.cat(nibbles), torch.cat(scales), _bias_of(linear))

    @property
    def widths(self) -> tuple[int, int]:
        """Input and output width."""
        return 2 * self.nibbles_OH.shape[1], self.nibbles_OH.shape[0]

    def weight(self) -> Tensor:
        """Dequantise the whole matrix, [O, I] in float32."""
        levels = torch.stack([self.nibbles_OH & 15, self.nibbles_OH >> 4], -1).flatten(1)
        groups_OKI = levels.float().sub(8).unflatten(1, (-1, GROUP))
        return (groups_OKI * self.scale_OK[..., None]).flatten(1)


class Int8Embedding(nn.Module):
    """Rows of integers with a scale each; only the rows looked up are dequantised."""

    levels_VD: Tensor
    scale_V: Tensor

    def __init__(self, levels_VD: Tensor, scale_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("levels_VD", levels_VD)
        self.register_buffer("scale_V", scale_V)

    def forward(self, ids: Tensor) -> Tensor:
        """Look rows up, [..] to [.., D] in float32."""
        return self.levels_VD[ids].float() * self.scale_V[ids][..., None]


def quantise_rows(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a matrix to -64..64 with a scale a row; return int8 [O, I] and float32 [O]."""
    levels_OI = torch.empty(weight_OI.shape, dtype=torch.int8)
    scale_O = torch.empty(weight_OI.shape[0])
    step = max(1, _CHUNK // weight_OI.shape[1])
    for start in range(0, weight_OI.shape[0], step):
        rows_OI = weight_OI[start : start + step].float()
        scale = rows_OI.abs().amax(1).div(LEVELS)
        scale_O[start : start + step] = scale
        inverse = torch.where(scale == 0, 0.0, 1 / scale)
        levels_OI[start : start + step] = (rows_OI * inverse[:, None]).round()
    return levels_OI, scale_O


def _bias_of(linear: nn.Linear) -> Tensor | None:
    return None if linear.bias is None else linear.bias.detach().float()
