"""The only decoder: InternLM2, Phi-3, LLaMA/Yi and Qwen2 are rows of numbers of it.

Queries, keys and values are one matrix with rows [q | k | v], gate and up another with rows
[gate | up]; `checkpoint/names.py` reorders what families store differently.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tessera.config import LanguageConfig
from tessera.models.attention import attend, causal_mask, segment_positions
from tessera.models.cache import KVCache
from tessera.models.layers import RMSNorm
from tessera.models.rope import rotary_angles, rotate


class LanguageAttention(nn.Module):
    """Causal self-attention with rotary positions and grouped heads."""

    def __init__(self, config: LanguageConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        self.splits = [
            count * config.head_width
            for count in (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        ]
        self.qkv = nn.Linear(config.width, sum(self.splits), bias=config.qkv_bias)
        self.out = nn.Linear(self.splits[0], config.width, bias=False)

    def forward(
        self,
        x_BLD: Tensor,
        angles: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None,
        causal: bool,
        cache: KVCache | None,
    ) -> Tensor:
        """Attend to this sequence and, with a cache, to what was read before."""
        q, k, v = (
            part.unflatten(-1, (-1, self.head_width))
            for part in self.qkv(x_BLD).split(self.splits, -1)
        )
        cos, sin = (angle.to(x_BLD.dtype) for angle in angles)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)
        return self.out(attend(q, k, v, mask=mask, causal=causal))


class LanguageMLP(nn.Module):
    """SwiGLU: down(silu(gate) * up)."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform each position; [B, L, D] in and out."""
        gate, up = self.gate_up(x_BLD).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class LanguageBlock(nn.Module):
    """x + attention(norm1 x), then x + mlp(norm2 x)."""

    def __init__(self, config: LanguageConfig, layer: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.width, config.norm_eps)
        self.attention = LanguageAttention(config, layer)
        self.norm2 = RMSNorm(config.width, config.norm_eps)
        self.mlp = LanguageMLP(config)

    def forward(
        self,
        x_BLD: Tensor,
        angles: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None,
        causal: bool,
        cache: KVCache | None,
    ) -> Tensor:
        """One block; [B, L, D] in and out."""
        x_BLD = x_BLD + self.attention(
            self.norm1(x_BLD), angles, mask=mask, causal=causal, cache=cache
        )
        return x_BLD + self.mlp(self.norm2(x_BLD))


class Decoder(nn.Module):
    """Embeddings to hidden states, and hidden states to logits."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(
            LanguageBlock(config, index) for index in range(config.num_layers)
        )
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head: nn.Module | None = None  # a linear; None: the embedding serves
        if not config.tied_embeddings:
            self.head = nn.Linear(config.width, config.vocab_size, bias=False)

    def forward(
        self,
        embeds_BLD: Tensor,
        *,
        segments_BL: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Read a batch of embeddings.

        Args:
            embeds_BLD: embedded words and visual tokens.
            segments_BL: 0 marks padding, equal numbers belong together; positions restart in each
                segment. None: every row is one sequence without padding.
            cache: what was read before. The first call into an empty cache may bring segments (0
                and 1 only); later calls bring new positions of every row and no segments.

        Returns:
            Hidden states after the final norm, [B, L, D].
        """
        batch, length = embeds_BLD.shape[:2]
        window = self.config.sliding_window
        device = embeds_BLD.device
        if cache is not None and cache.length > 0:
            assert segments_BL is None, "segments are for the first call into a cache"
            positions_BL = cache.num_real_B[:, None] + torch.arange(length, device=device)
            lengths_BL = positions_BL[:, -1:] + 1
            cache.reserve(torch.ones((batch, length), dtype=torch.bool, device=device))
            mask = _cached_mask(cache, length, window)
        else:
            if segments_BL is None:
                positions_BL = torch.arange(length, device=device)[None]
                lengths_BL = torch.full((1, 1), length, device=device)
            else:
                positions_BL, lengths_BL = segment_positions(segments_BL)
            mask = causal_mask(segments_BL, length=length, window=window, device=device)
            if cache is not None:
                ones = torch.ones((batch, length), dtype=torch.bool, device=device)
                cache.reserve(ones if segments_BL is None else segments_BL != 0)
        causal = mask is None and length > 1 and (cache is None or cache.length == 0)
        angles = rotary_angles(self.config, positions_BL, lengths_BL)
        x_BLD = embeds_BLD
        for block in self.blocks:
            x_BLD = block(x_BLD, angles, mask=mask, causal=causal, cache=cache)
        if cache is not None:
            cache.advance(length)
        return self.norm(x_BLD)

    def logits(self, hidden_BLD: Tensor) -> Tensor:
        """Score the vocabulary; [.., D] to [.., V]."""
        if self.head is None:
            return F.linear(hidden_BLD, self.embedding.weight)
        return self.head(hidden_BLD)


def _cached_mask(cache: KVCache, length: int, window: int | None) -> Tensor | None:
    """Mask [B, 1, L, keys] of new positions over everything that is stored."""
    end = cache.length + length
    windowed = window is not None and end > window
    if length == 1 and not cache.has_padding and not windowed:
        return None
    valid_BL = cache.valid_BL[:, :end]
    keys_L = torch.arange(end, device=valid_BL.device)
    queries_L = keys_L[cache.length :]
    distance_LL = queries_L[:, None] - keys_L[None, :]
    mask = distance_LL >= 0
    if window is not None:
        mask = mask & (distance_LL < window)
    return (mask[None] & valid_BL[:, None, :])[:, None]
