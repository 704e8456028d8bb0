"""Rotary positions (arXiv 2104.09864) and their stretched forms.

Half-split convention: channel i turns with channel i + E/2. Angles are computed in float32.

Stretching depends on the present length of a sequence only. The published code differs twice: its
dynamic-NTK table grows and never shrinks, so a short sequence after a long one gets the long one's
base; and it looks at a whole batch. Here a row's result does not depend on other rows, nor on what
was asked before. With a cache, each key keeps the turn of the length at which it was read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tessera.config import LanguageConfig


def rotary_angles(
    config: LanguageConfig, positions_BL: Tensor, lengths_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute cosine and sine for every position.

    Args:
        config: the decoder; `rope` says how frequencies stretch.
        positions_BL: place in its sequence.
        lengths_BL: present length of that sequence.

    Returns:
        cos and sin, each [B, L, 1, E] in float32.
    """
    exponents_E = (
        torch.arange(0, config.head_width, 2, device=positions_BL.device) / config.head_width
    )
    rope = config.rope
    scale = 1.0
    if rope.kind == "dynamic":
        stretch_BL = rope.factor * lengths_BL / config.max_positions - (rope.factor - 1.0)
        power = config.head_width / (config.head_width - 2)
        base_BL = rope.theta * torch.where(
            lengths_BL > config.max_positions, stretch_BL, torch.ones_like(stretch_BL)
        ).pow(power)
        frequencies = 1.0 / base_BL[..., None].pow(exponents_E)
    else:
        frequencies = 1.0 / rope.theta**exponents_E
    if rope.kind in ("su", "yarn"):
        assert rope.original_max_positions is not None  # checked by RopeConfig
        short = torch.tensor(rope.short_factor, device=positions_BL.device)
        long = torch.tensor(rope.long_factor, device=positions_BL.device)
        is_long = (lengths_BL > rope.original_max_positions)[..., None]
        frequencies = frequencies / torch.where(is_long, long, short)
        scale = _attention_scale(config.max_positions / rope.original_max_positions, config)
    half = positions_BL[..., None] * frequencies
    angles = torch.cat([half, half], -1)[:, :, None]
    return angles.cos() * scale, angles.sin() * scale


def _attention_scale(ratio: float, config: LanguageConfig) -> float:
    """Factor on cos and sin of a long-context Phi-3 (arXiv 2402.13753)."""
    if ratio <= 1.0:
        return 1.0
    if config.rope.kind == "yarn":
        return 0.1 * math.log(ratio) + 1.0
    assert config.rope.original_max_positions is not None  # checked by RopeConfig
    return math.sqrt(1.0 + math.log(ratio) / math.log(config.rope.original_max_positions))


def rotate(x_BLHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys by their angles."""
    first, second = x_BLHE.chunk(2, -1)
    return x_BLHE * cos + torch.cat([-second, first], -1) * sin
