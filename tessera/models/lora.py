"""Low-rank adapters (arXiv 2106.09685): y = W x + (alpha / rank) B A x, W frozen."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from tessera.errors import ConfigError


class LoRALinear(nn.Module):
    """A frozen linear with a trainable low-rank part; starts equal to the linear."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the linear and its low-rank part to the last axis."""
        return self.base(x) + (x @ self.lora_a.T) @ self.lora_b.T * self.scale


def add_lora(model: nn.Module, pattern: str, *, rank: int, alpha: float) -> list[str]:
    """Wrap every linear whose full name matches the regular expression; return their names.

    Raises:
        ConfigError: the pattern matches no linear, or the rank is not positive.
    """
    if rank < 1:
        raise ConfigError(f"LoRA rank must be at least 1, not {rank}")
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name)
    ]
    if not names:
        raise ConfigError(f"LoRA pattern {pattern!r} matches no linear layer of this model")
    for name in names:
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, child, LoRALinear(getattr(owner, child), rank=rank, alpha=alpha))
    return names


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """Collect the low-rank matrices, with alpha / rank already multiplied into B."""
    state = {}
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            state[f"{name}.lora_a"] = module.lora_a.detach().clone()
            state[f"{name}.lora_b"] = module.lora_b.detach() * module.scale
    return state
