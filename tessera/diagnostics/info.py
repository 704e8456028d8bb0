"""What a model is made of and what a picture costs it, without reading its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.config import LanguageConfig, ModelConfig, VisionConfig
from tessera.errors import UserError, nearest
from tessera.presets import PRESETS, VISION_PRESETS

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2}
_CACHE_POSITIONS = 4096  # the sequence length for which the memory of keys and values is told
_WRAPPER_TOKENS = 2  # <img> and </img> around the visual tokens of a picture


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that one number type needs."""

    weights: int
    cache: int  # keys and values of `_CACHE_POSITIONS` positions; 0 for a lone vision encoder


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What `tessera info` tells."""

    name: str
    family: str
    parts: dict[str, int]  # parameters of each part
    facts: dict[str, str]
    memory: dict[str, Memory]
    config: ModelConfig | VisionConfig

    @property
    def parameters(self) -> int:
        """Parameters in all."""
        return sum(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain = asdict(self)
        del plain["config"]
        return plain | {"parameters": self.parameters}


@dataclass(frozen=True, kw_only=True)
class PictureCost:
    """What one picture costs."""

    path: str
    width: int  # pixels, upright
    height: int
    columns: int
    rows: int
    tiles: int  # thumbnail included
    visual_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of the context that the picture takes."""
        return self.visual_tokens + _WRAPPER_TOKENS


def find_config(name: str) -> ModelConfig | VisionConfig:
    """Return the config of a checkpoint directory or of a preset.

    Raises:
        UserError: neither of the two.
    """
    from tessera.checkpoint.loader import read_config

    if Path(name).is_file():
        raise UserError(f"{name!r} is a file: give the directory that it lies in")
    if name and Path(name).is_dir():
        return read_config(Path(name))
    presets: dict[str, Callable[[], ModelConfig | VisionConfig]] = {**PRESETS, **VISION_PRESETS}
    by_short = {key.lower(): make for key, make in presets.items()}
    make = by_short.get(name.rstrip("/").rsplit("/", 1)[-1].lower())
    if make is None:
        raise UserError(
            f"{name!r} is neither a directory nor a preset.{nearest(name, presets)} "
            f"Presets: {', '.join(presets)}"
        )
    return make()


def describe(name: str, config: ModelConfig | VisionConfig) -> ModelInfo:
    """Count parameters and memory of a config; no weight is allocated."""
    shapes = _shapes(config)
    parts: dict[str, int] = {}
    for parameter, shape in shapes.items():
        part = parameter.partition(".")[0] if isinstance(config, ModelConfig) else "vision"
        parts[part] = parts.get(part, 0) + math.prod(shape)
    return ModelInfo(
        name=name,
        family=_family(config),
        parts=parts,
        facts=_facts(config),
        memory=_memory(config, shapes),
        config=config,
    )


def picture_cost(
    config: ModelConfig, source: str | Path, *, max_tiles: int | None = None
) -> PictureCost:
    """Open a picture as the model would, and count its tiles and tokens."""
    from tessera.processing.image import open_image
    from tessera.processing.tiling import count_tiles, plan_grid

    image = open_image(source)
    columns, rows = plan_grid(config, image.size, max_tiles=max_tiles)
    tiles = count_tiles((columns, rows), use_thumbnail=config.use_thumbnail)
    return PictureCost(
        path=str(source),
        width=image.width,
        height=image.height,
        columns=columns,
        rows=rows,
        tiles=tiles,
        visual_tokens=tiles * config.visual_tokens_per_tile,
    )


def _shapes(config: ModelConfig | VisionConfig) -> dict[str, tuple[int, ...]]:
    """Build the model without memory and list its parameters."""
    import torch

    from tessera.models.chat import ChatModel
    from tessera.models.vision import VisionEncoder

    with torch.device("meta"):
        if isinstance(config, VisionConfig):
            parameters = dict(VisionEncoder(config).named_parameters())
        else:
            parameters = dict(ChatModel(config).named_parameters())
    return {name: tuple(parameter.shape) for name, parameter in parameters.items()}


def _memory(
    config: ModelConfig | VisionConfig, shapes: dict[str, tuple[int, ...]]
) -> dict[str, Memory]:
    total = sum(map(math.prod, shapes.values()))
    if isinstance(config, VisionConfig):
        return {name: Memory(weights=total * size, cache=0) for name, size in WEIGHT_BYTES.items()}
    from tessera.engine.quantise import Quantiser

    positions = _cache_values(config.language)
    memory = {
        name: Memory(weights=total * size, cache=positions * size)
        for name, size in WEIGHT_BYTES.items()
    }
    for name, quantiser in (
        ("int8", Quantiser(bits=8)),
        ("int4+int8", Quantiser(bits=4)),
        ("int4", Quantiser(bits=4, keeps_int8=False)),
    ):
        weights = sum(quantiser.num_bytes(*item) for item in shapes.items())
        if config.language.tied_embeddings:  # the head becomes a matrix of its own
            weights += math.prod(shapes["language.embedding.weight"])
        memory[name] = Memory(weights=weights, cache=positions * 4)
    return memory


def _cache_values(language: LanguageConfig) -> int:
    per_position = 2 * language.num_layers * language.num_kv_heads * language.head_width
    return per_position * min(_CACHE_POSITIONS, language.max_positions)


def _family(config: ModelConfig | VisionConfig) -> str:
    if isinstance(config, VisionConfig):
        return "InternViT (vision encoder alone)"
    return f"InternVL-Chat with {config.language.family}"


def _facts(config: ModelConfig | VisionConfig) -> dict[str, str]:
    vision = config if isinstance(config, VisionConfig) else config.vision
    facts = {
        "vision": (
            f"{vision.num_layers} blocks of width {vision.width}, {vision.num_heads} heads, "
            f"{vision.norm}{', QK-norm' if vision.qk_norm else ''}, patch {vision.patch_size}, "
            f"{vision.image_size} px"
        )
    }
    if isinstance(config, VisionConfig):
        return facts
    language = config.language
    facts["language"] = (
        f"{language.num_layers} blocks of width {language.width}, {language.num_heads} heads "
        f"({language.num_kv_heads} for keys), vocabulary {language.vocab_size:,}, "
        f"{language.max_positions:,} positions"
    )
    facts["layer"] = (
        f"output of block {config.num_vision_blocks_used} of {vision.num_layers}, "
        f"pixel shuffle {config.shuffle_version}"
    )
    facts["tile"] = f"{config.tile_size} px, {config.visual_tokens_per_tile} visual tokens"
    facts["tiling"] = _tiling(config)
    facts["template"] = config.template
    return facts


def _tiling(config: ModelConfig) -> str:
    if not config.dynamic_tiling:
        return "one tile a picture"
    thumbnail = " and a thumbnail" if config.use_thumbnail else ""
    most = config.max_tiles + (1 if config.use_thumbnail and config.max_tiles > 1 else 0)
    return (
        f"{config.min_tiles} to {config.max_tiles} tiles{thumbnail}: at most "
        f"{most * config.visual_tokens_per_tile:,} visual tokens a picture"
    )


def info_lines(info: ModelInfo, costs: Sequence[PictureCost] = ()) -> list[str]:
    """Return the text of `tessera info`."""
    lines = [f"{info.name}: {info.family}, {info.parameters:,} parameters", ""]
    lines += [f"  {part:<10}{count:>17,}" for part, count in info.parts.items()]
    lines.append("")
    lines += [f"  {key:<10}{text}" for key, text in info.facts.items()]
    lines.append("")
    for dtype, memory in info.memory.items():
        cache = (
            f" + {_size(memory.cache)} for {_CACHE_POSITIONS:,} positions" if memory.cache else ""
        )
        lines.append(f"  {dtype:<10}{_size(memory.weights)} of weights{cache}")
    for cost in costs:
        lines += ["", f"  {cost_line(cost)}"]
    return lines


def cost_line(cost: PictureCost) -> str:
    """Return one line about a picture."""
    thumbnail = " + thumbnail" if cost.tiles > cost.columns * cost.rows else ""
    return (
        f"{cost.path}: {cost.width} x {cost.height} px -> grid {cost.columns} x {cost.rows}"
        f"{thumbnail} = {cost.tiles} {'tile' if cost.tiles == 1 else 'tiles'}, "
        f"{cost.visual_tokens:,} visual tokens, {cost.tokens:,} tokens in all"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
