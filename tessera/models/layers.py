"""Small layers that both towers are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467), computed in float32.

    As in the released code the result is cast back to the input's type before the weight applies.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class DropPath(nn.Module):
    """Drop a residual branch of whole samples in training (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, prob: float) -> None:
        super().__init__()
        self.prob = prob

    def forward(self, x: Tensor) -> Tensor:
        """Zero rows of the first axis with `prob`, scale up the others; identity in eval mode."""
        if not self.training or self.prob == 0.0:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = torch.rand(shape, device=x.device) >= self.prob
        return x * kept.to(x.dtype) / (1.0 - self.prob)


def make_norm(kind: str, width: int, eps: float) -> nn.Module:
    """Build `rms_norm` or `layer_norm` of a width."""
    return RMSNorm(width, eps) if kind == "rms_norm" else nn.LayerNorm(width, eps=eps)
