"""Our config to the released `config.json`, every field explicit; `released_config` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tessera.checkpoint.released_families import FAMILIES
from tessera.config import LanguageConfig, ModelConfig, VisionConfig
from tessera.errors import ConfigError


def config_to_released(
    config: ModelConfig | VisionConfig, *, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Translate to the released layout, every field explicit.

    Args:
        config: what to write.
        base: a released config whose other fields (token ids, inherited ones) are kept.

    Raises:
        ConfigError: the released classes have no words for this model.
    """
    base = base or {}
    if isinstance(config, VisionConfig):
        return _without_code({**base, **_vision_to_released(config)})
    old_vision, old_language = base.get("vision_config"), base.get("llm_config")
    result = {
        **base,
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "vision_config": {**(old_vision or {}), **_vision_to_released(config.vision)},
        "llm_config": {**(old_language or {}), **_language_to_released(config.language)},
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "select_layer": config.select_layer,
        "downsample_ratio": 1.0 / config.shuffle_factor,
        "ps_version": config.shuffle_version,
        "force_image_size": config.tile_size,
        "dynamic_image_size": config.dynamic_tiling,
        "use_thumbnail": config.use_thumbnail,
        "min_dynamic_patch": config.min_tiles,
        "max_dynamic_patch": config.max_tiles,
        "pad2square": config.pad_to_square,
        "template": config.template,
        "hidden_size": config.language.width,
        "tie_word_embeddings": config.language.tied_embeddings,
    }
    result.pop("system_message", None)
    if config.system_message is not None:
        result["system_message"] = config.system_message
    return _without_code(result)


def _without_code(data: dict[str, Any]) -> dict[str, Any]:
    for part in (data, data.get("vision_config"), data.get("llm_config")):
        if isinstance(part, dict):
            part.pop("auto_map", None)  # names Python files that we never copy
    return data


def _vision_to_released(config: VisionConfig) -> dict[str, Any]:
    return {
        "model_type": "intern_vit_6b",
        "architectures": ["InternVisionModel"],
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "norm_type": config.norm,
        "qkv_bias": config.qkv_bias,
        "qk_normalization": config.qk_norm,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "drop_path_rate": config.drop_path_prob,
        "initializer_factor": config.layer_scale_init,
    }


def _rope_to_released(config: LanguageConfig) -> dict[str, Any] | None:
    if config.rope.kind == "plain":
        return None
    if config.rope.kind not in FAMILIES[config.family].ropes:
        raise ConfigError(f"a released {config.family} config cannot say rope {config.rope.kind!r}")
    if config.rope.kind == "dynamic":
        return {"type": "dynamic", "factor": config.rope.factor}
    short, long = list(config.rope.short_factor), list(config.rope.long_factor)
    return {"type": config.rope.kind, "short_factor": short, "long_factor": long}


def _language_to_released(config: LanguageConfig) -> dict[str, Any]:
    defaults = FAMILIES[config.family]
    if config.qkv_bias != (config.family == "qwen2"):
        raise ConfigError(
            f"a released {config.family} config cannot say qkv_bias={config.qkv_bias}"
        )
    if config.sliding_window is not None and config.family not in ("phi3", "qwen2"):
        raise ConfigError(f"a released {config.family} config cannot say sliding_window")
    result: dict[str, Any] = {
        "model_type": defaults.model_type,
        "architectures": [defaults.architecture],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": _rope_to_released(config),
        "rope_parameters": None,
        "tie_word_embeddings": config.tied_embeddings,
    }
    if config.rope.original_max_positions is not None:
        result["original_max_position_embeddings"] = config.rope.original_max_positions
    if config.family == "internlm2":
        result["bias"] = False
    if config.family == "llama":
        result.update(attention_bias=False, mlp_bias=False)
    if config.family in ("phi3", "qwen2"):
        result["sliding_window"] = config.sliding_window
    if config.family == "qwen2":
        result.update(use_sliding_window=config.sliding_window is not None, max_window_layers=0)
    return result
