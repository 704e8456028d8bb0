"""Integer weights while a checkpoint is loading: each linear is replaced as soon as it is full.

    precision   vision, projector   decoder: prompt   decoder: new token   head, embedding
    int8        int8                int8              int8                 int8
    int4        int8                int8 or int4      int4                 int8

With int4 the decoder keeps an int8 copy beside it for reading prompts, where integer products take
the time and not memory, if both fit well: `plan_quantiser` decides.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from tessera.engine.kernels import KernelLinear, TwoSpeedLinear
from tessera.models.chat import ChatModel
from tessera.models.quantized import GROUP, Int4Linear, Int8Embedding, Int8Linear, quantise_rows

QUANTISED = ("int8", "int4")
# A nibble and its share of three float32 numbers that the kernel keeps for each group.
_INT4_BYTES = 0.5 + 3 * 4 / GROUP


@dataclass(frozen=True)
class Quantiser:
    """Replaces linears of a chat model by integer ones; the loader's `Converter`."""

    bits: Literal[8, 4]  # of the decoder's blocks
    keeps_int8: bool = True  # beside int4: int8 for prompts

    def num_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        """Count what a parameter takes once it is converted."""
        count = math.prod(shape)
        if not _is_matrix(name, shape):
            return 4 * count
        if self.bits == 4 and name.startswith("language.blocks."):
            return int(count * (_INT4_BYTES + self.keeps_int8))
        return count

    def filled(self, model: nn.Module, names: set[str]) -> list[str]:
        """Convert what is complete among the filled parameters; return the names that are gone."""
        gone = []
        for name in sorted(names):
            owner = name.rpartition(".")[0]
            module = model.get_submodule(owner)
            members = {f"{owner}.{key}" for key, _ in module.named_parameters(recurse=False)}
            if members <= names and self._convert(model, owner, module):
                gone += [member for member in members if member not in gone]
        if gone:
            _return_memory()
        return gone

    def _convert(self, model: nn.Module, name: str, module: nn.Module) -> bool:
        assert isinstance(model, ChatModel), type(model)
        if isinstance(module, nn.Linear):
            model.set_submodule(name, self._linear(name, module))
        elif isinstance(module, nn.Embedding):
            levels, scale = quantise_rows(module.weight.detach())
            _free(module)
            if model.language.head is None:
                model.language.head = KernelLinear(Int8Linear(levels, scale, None))
            model.set_submodule(name, Int8Embedding(levels, scale))
        else:
            return False
        return True

    def _linear(self, name: str, linear: nn.Linear) -> nn.Module:
        wants_int4 = self.bits == 4 and name.startswith("language.blocks.")
        if not wants_int4 or linear.in_features % GROUP:
            quantised = Int8Linear.of(linear)
            _free(linear)
            return KernelLinear(quantised)
        one = KernelLinear(Int4Linear.of(linear))
        if not self.keeps_int8:
            return one
        return TwoSpeedLinear(one, KernelLinear(Int8Linear.of(linear)))


def _free(module: nn.Linear | nn.Embedding) -> None:
    """Give the memory of a weight back now: kernels make copies, and a head is large."""
    module.weight.data = torch.empty(0)


def _return_memory() -> None:
    """Give back what the C library keeps of freed copies; without it they add up (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _is_matrix(name: str, shape: Iterable[int]) -> bool:
    """Tell whether a parameter is the weight of a linear or of the embedding."""
    return len(tuple(shape)) == 2 and name.endswith(".weight")


def plan_quantiser(
    precision: str, shapes: Iterable[tuple[str, tuple[int, ...]]], *, free: int | None
) -> Quantiser:
    """Choose the forms of the weights for `int8` or `int4`.

    Args:
        precision: one of `QUANTISED`.
        shapes: name and shape of every parameter.
        free: bytes of memory that are free; None if nobody says.
    """
    if precision == "int8":
        return Quantiser(bits=8)
    both = Quantiser(bits=4)
    needed = sum(both.num_bytes(name, shape) for name, shape in shapes)
    return both if free is None or 2 * needed <= free else Quantiser(bits=4, keeps_int8=False)
