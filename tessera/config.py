"""Frozen descriptions of a model: what shapes it has and how a picture reaches it.

Our own schema, strict. The released `config.json` is translated to and from it in the checkpoint
package and nowhere else. Numbers of the published models are in `presets.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tessera.errors import ConfigError

RopeKind = Literal["plain", "dynamic", "su", "yarn"]
Family = Literal["internlm2", "phi3", "llama", "qwen2"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """An InternViT (arXiv 2312.14238 section 3.2): pre-norm ViT, LayerScale, no final norm."""

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    norm: Literal["rms_norm", "layer_norm"]
    qkv_bias: bool
    qk_norm: bool  # RMSNorm over the full width, before the heads are split
    image_size: int = 448  # pixels; the grid that the stored position embedding covers
    patch_size: int = 14
    norm_eps: float = 1e-6
    drop_path_prob: float = 0.0  # of the last block; earlier blocks rise linearly from 0
    layer_scale_init: float = 0.1

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "num_heads", "mlp_width", "image_size", "patch_size"):
            _require(
                getattr(self, name) > 0,
                f"vision {name} must be positive, not {getattr(self, name)}",
            )
        _require(
            self.width % self.num_heads == 0,
            f"vision width {self.width} is not a multiple of num_heads {self.num_heads}",
        )
        _require(
            self.image_size % self.patch_size == 0,
            f"vision image_size {self.image_size} is not a multiple of patch_size "
            f"{self.patch_size}",
        )
        _require(
            0.0 <= self.drop_path_prob < 1.0, f"drop_path_prob {self.drop_path_prob} not in [0, 1)"
        )

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.num_heads

    @property
    def grid_size(self) -> int:
        """Patches per side that the stored position embedding covers."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary positions (arXiv 2104.09864) and how they stretch beyond the trained length."""

    theta: float = 10_000.0
    kind: RopeKind = "plain"
    factor: float = 1.0  # dynamic NTK only
    original_max_positions: int | None = (
        None  # su and yarn: where short_factor gives way to long_factor
    )
    short_factor: tuple[float, ...] = ()  # su and yarn: one divisor per frequency
    long_factor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _require(self.theta > 0, f"rope theta must be positive, not {self.theta}")
        _require(self.factor >= 1.0, f"rope factor must be at least 1, not {self.factor}")
        if self.kind in ("su", "yarn"):
            _require(
                self.original_max_positions is not None and self.original_max_positions > 1,
                f"rope kind {self.kind!r} needs original_max_positions",
            )
            _require(
                bool(self.short_factor)
                and bool(self.long_factor)
                and min(self.short_factor + self.long_factor) > 0,
                f"rope kind {self.kind!r} needs positive short_factor and long_factor",
            )


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A decoder of the LLaMA kind: RMSNorm, rotary positions, grouped heads, SwiGLU."""

    family: Family  # decides only the released names and the order of fused rows
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    mlp_width: int
    max_positions: int
    norm_eps: float = 1e-5
    rope: RopeConfig = RopeConfig()
    qkv_bias: bool = False
    tied_embeddings: bool = False
    sliding_window: int | None = None  # keys a position can see; None sees all

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width")
        for name in (*sizes, "mlp_width", "max_positions"):
            _require(
                getattr(self, name) > 0,
                f"language {name} must be positive, not {getattr(self, name)}",
            )
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}",
        )
        _require(
            self.head_width % 2 == 0,
            f"head_width {self.head_width} must be even for rotary positions",
        )
        _require(
            self.rope.kind != "dynamic" or self.head_width > 2,
            "dynamic rope needs a head_width above 2",
        )
        _require(self.norm_eps > 0, f"norm_eps must be positive, not {self.norm_eps}")
        for name in ("short_factor", "long_factor"):
            count = len(getattr(self.rope, name))
            _require(
                count in (0, self.head_width // 2),
                f"rope {name} has {count} entries, head_width {self.head_width} needs "
                f"{self.head_width // 2}",
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A chat model: vision encoder, pixel shuffle, MLP, decoder (arXiv 2404.16821 section 3.1)."""

    vision: VisionConfig
    language: LanguageConfig
    template: str  # a name of `processing.template.TEMPLATES`
    system_message: str | None = (
        None  # None: the message that the template's release was trained with
    )
    select_layer: int = -1  # index into [embeddings, block 1, ...], as the released configs count
    shuffle_factor: int = 2  # patches per side that become one visual token
    shuffle_version: Literal["v1", "v2"] = "v2"
    tile_size: int = 448  # pixels per side of one tile
    dynamic_tiling: bool = True  # False: one tile a picture
    use_thumbnail: bool = True
    min_tiles: int = 1
    max_tiles: int = 12
    pad_to_square: bool = False

    def __post_init__(self) -> None:
        _require(
            -self.vision.num_layers - 1 <= self.select_layer <= self.vision.num_layers,
            f"select_layer {self.select_layer} does not exist among {self.vision.num_layers} "
            "blocks",
        )
        _require(
            self.shuffle_factor > 0, f"shuffle_factor must be positive, not {self.shuffle_factor}"
        )
        side = self.vision.patch_size * self.shuffle_factor
        _require(
            self.tile_size > 0 and self.tile_size % side == 0,
            f"tile_size {self.tile_size} is not a multiple of patch_size x shuffle_factor = {side}",
        )
        _require(
            1 <= self.min_tiles <= self.max_tiles,
            f"tiles must satisfy 1 <= min <= max, not {self.min_tiles} and {self.max_tiles}",
        )

    @property
    def tile_grid(self) -> int:
        """Patches per side of one tile."""
        return self.tile_size // self.vision.patch_size

    @property
    def visual_tokens_per_tile(self) -> int:
        """Visual tokens of one tile after the shuffle (256 in the released models)."""
        return (self.tile_grid // self.shuffle_factor) ** 2

    @property
    def num_vision_blocks_used(self) -> int:
        """Blocks that run; those behind the selected layer are loaded but never used."""
        index = self.select_layer
        return index if index >= 0 else self.vision.num_layers + 1 + index
