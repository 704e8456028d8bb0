"""The released `config.json` to ours; `released_writing` is the way back, `names` has the weights.

transformers leaves out fields that equal the default of their config class, so every field has the
default of the published class. What we cannot compute exactly is refused; what cannot change a
result (dozens of inherited generation fields) is skipped; `unread_keys` lists what nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tessera.checkpoint.released_families import (
    FAMILIES,
    INHERITED,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_MLP,
    MAX_POSITIONS,
    MAX_VOCAB,
    MAX_WIDTH,
)
from tessera.checkpoint.values import Fields, show
from tessera.config import Family, LanguageConfig, ModelConfig, RopeConfig, VisionConfig
from tessera.errors import CheckpointError, ConfigError


def config_from_released(
    data: Mapping[str, Any], *, where: str = "config.json"
) -> ModelConfig | VisionConfig:
    """Translate a released config: of a chat model, or of a stand-alone InternViT.

    Raises:
        ConfigError: a key whose value is of the wrong type, out of range or unknown to us.
        CheckpointError: the weights were saved with LoRA layers inside.
    """
    return _translate(data, where)[0]


def unread_keys(data: Mapping[str, Any], *, where: str = "config.json") -> list[str]:
    """Return the keys of a released config that had no influence and that we do not know."""
    return _translate(data, where)[1]


def _translate(data: object, where: str) -> tuple[ModelConfig | VisionConfig, list[str]]:
    fields = Fields(data, where=where)
    try:
        if _kind(fields) == "chat":
            return _chat(fields)
        return _vision(fields), fields.unread(INHERITED)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from None


def _kind(fields: Fields) -> Literal["chat", "vision"]:
    kinds: dict[str, Literal["chat", "vision"]] = {
        "internvl_chat": "chat",
        "intern_vit_6b": "vision",
    }
    by_class: dict[str, Literal["chat", "vision"]] = {
        "InternVLChatModel": "chat", "InternVisionModel": "vision",
    }  # fmt: skip
    _refuse_quantized(fields)
    model_type = fields.raw("model_type")
    if model_type == "internvl":
        raise ConfigError(
            f"{fields.where}: model_type is 'internvl': the InternVL-14B dual encoder or a"
            " transformers conversion ('-hf'). Use the original release of a chat model"
            " ('internvl_chat')."
        )
    architecture = _architecture(fields, by_class)
    if model_type is None and architecture is not None:
        return by_class[architecture]
    if not isinstance(model_type, str) or model_type not in kinds:
        raise fields.not_among("model_type", model_type, kinds)
    if architecture is not None and by_class[architecture] != kinds[model_type]:
        raise fields.fail("architectures", f"the class of model_type {model_type!r}")
    return kinds[model_type]


def _architecture(fields: Fields, valid: Mapping[str, Any]) -> str | None:
    names = fields.raw("architectures")
    if names is None or names == []:
        return None
    first = names[0] if isinstance(names, list) else names
    if not isinstance(first, str) or first not in valid:
        raise fields.not_among("architectures", first, valid)
    return first


def _refuse_quantized(fields: Fields) -> None:
    if fields.raw("quantization_config"):
        raise ConfigError(
            f"{fields.where}: {fields.prefix}quantization_config says the weights are quantised for"
            " another program. Use the unquantised release of this model."
        )


def _chat(fields: Fields) -> tuple[ModelConfig, list[str]]:
    for name in ("use_llm_lora", "use_backbone_lora"):
        if fields.integer(name, 0, low=0, high=MAX_WIDTH):
            raise CheckpointError(
                f"{fields.where}: {name} is {show(fields.raw(name))}: saved with LoRA layers"
                " inside. Merge them into the weights first (the published tools/merge_lora.py)."
            )
    vision_fields, language_fields = fields.section("vision_config"), fields.section("llm_config")
    vision, language = _vision(vision_fields), _language(language_fields)
    template = fields.text("template", longest=100)
    if not template:
        raise fields.fail("template", "the name of a prompt template, for example 'internlm2-chat'")
    versions: tuple[Literal["v1"], Literal["v2"]] = ("v1", "v2")
    config = ModelConfig(
        vision=vision,
        language=language,
        template=template,
        system_message=fields.text("system_message", longest=65_536),
        select_layer=fields.integer("select_layer", -1, low=-MAX_LAYERS - 1, high=MAX_LAYERS),
        shuffle_factor=_shuffle_factor(fields),
        shuffle_version=fields.choice("ps_version", "v1", versions),
        tile_size=fields.integer("force_image_size", vision.image_size, high=16_384),
        dynamic_tiling=fields.boolean("dynamic_image_size", False),
        use_thumbnail=fields.boolean("use_thumbnail", False),
        min_tiles=fields.integer("min_dynamic_patch", 1, high=1_024),
        max_tiles=fields.integer("max_dynamic_patch", 6, high=1_024),
        pad_to_square=fields.boolean("pad2square", False),
    )
    unread = [
        key for part in (fields, vision_fields, language_fields) for key in part.unread(INHERITED)
    ]
    return config, unread


def _shuffle_factor(fields: Fields) -> int:
    ratio = fields.number("downsample_ratio", 0.5, low=1e-3, high=1.0)
    factor = round(1.0 / ratio)
    if abs(ratio * factor - 1.0) > 1e-6:
        raise fields.fail("downsample_ratio", "1, 1/2, 1/3, 1/4 or another 1/n")
    return factor


def _vision(fields: Fields) -> VisionConfig:
    fields.choice("model_type", "intern_vit_6b", ["intern_vit_6b"])
    _architecture(fields, {"InternVisionModel": None})
    _refuse_quantized(fields)
    fields.choice("hidden_act", "gelu", ["gelu"])
    fields.integer("num_channels", 3, low=3, high=3)
    norms: tuple[Literal["rms_norm"], Literal["layer_norm"]] = ("rms_norm", "layer_norm")
    return VisionConfig(
        width=fields.integer("hidden_size", 3200, high=MAX_WIDTH),
        num_layers=fields.integer("num_hidden_layers", 48, high=MAX_LAYERS),
        num_heads=fields.integer("num_attention_heads", 25, high=MAX_HEADS),
        mlp_width=fields.integer("intermediate_size", 12_800, high=MAX_MLP),
        norm=fields.choice("norm_type", "rms_norm", norms),
        qkv_bias=fields.boolean("qkv_bias", False),
        qk_norm=fields.boolean("qk_normalization", True),
        image_size=fields.integer("image_size", 224, high=16_384),
        patch_size=fields.integer("patch_size", 14, high=1_024),
        norm_eps=fields.number("layer_norm_eps", 1e-6, low=1e-12, high=1.0),
        drop_path_prob=fields.number("drop_path_rate", 0.0, low=0.0, high=0.999),
        layer_scale_init=fields.number("initializer_factor", 0.1, low=-1e3, high=1e3),
    )


def _family(fields: Fields) -> Family:
    by_class = {defaults.architecture: family for family, defaults in FAMILIES.items()}
    by_type = {defaults.model_type: family for family, defaults in FAMILIES.items()}
    architecture = _architecture(fields, by_class)
    if fields.raw("model_type") is None and architecture is None:
        raise fields.not_among("architectures", None, by_class)
    model_type = fields.choice(
        "model_type", FAMILIES[by_class[architecture]].model_type if architecture else "", by_type
    )
    if architecture is not None and by_class[architecture] != by_type[model_type]:
        raise fields.fail("model_type", f"that of {architecture!r}")
    return by_type[model_type]


def _language(fields: Fields) -> LanguageConfig:
    family = _family(fields)
    defaults = FAMILIES[family]
    _refuse_quantized(fields)
    _refuse_unsupported(fields, family)
    width = fields.integer("hidden_size", defaults.width, high=MAX_WIDTH)
    num_heads = fields.integer("num_attention_heads", 32, high=MAX_HEADS)
    default_kv = 32 if family == "qwen2" else num_heads
    head_width = fields.integer("head_dim", max(1, width // num_heads), high=MAX_WIDTH)
    if fields.raw("head_dim") is None and width % num_heads:
        raise fields.fail("hidden_size", f"a multiple of num_attention_heads, {num_heads}")
    return LanguageConfig(
        family=family,
        vocab_size=fields.integer("vocab_size", defaults.vocab_size, high=MAX_VOCAB),
        width=width,
        num_layers=fields.integer("num_hidden_layers", 32, high=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", default_kv, high=MAX_HEADS),
        head_width=head_width,
        mlp_width=fields.integer("intermediate_size", defaults.mlp_width, high=MAX_MLP),
        max_positions=fields.integer(
            "max_position_embeddings", defaults.max_positions, high=MAX_POSITIONS
        ),
        norm_eps=fields.number("rms_norm_eps", defaults.norm_eps, low=1e-12, high=1.0),
        rope=_rope(fields, family),
        qkv_bias=family == "qwen2",
        tied_embeddings=fields.boolean("tie_word_embeddings", False),
        sliding_window=_sliding_window(fields, family),
    )


def _refuse_unsupported(fields: Fields, family: Family) -> None:
    fields.choice("hidden_act", "silu", ["silu"])
    if fields.number("partial_rotary_factor", 1.0, low=0.0, high=1.0) != 1.0:
        raise fields.fail("partial_rotary_factor", "1.0")
    # InternLM2Config's own default is true, but no release has these biases.
    biases = {"internlm2": ("bias",), "llama": ("attention_bias", "mlp_bias")}.get(family, ())
    for name in biases:
        if fields.boolean(name, name == "bias"):
            raise fields.fail(name, "false: no released model has biases here")


def _rope(fields: Fields, family: Family) -> RopeConfig:
    nested = "rope_parameters" if fields.raw("rope_parameters") is not None else "rope_scaling"
    theta = fields.number("rope_theta", 10_000.0, low=1e-3, high=1e12)
    if fields.raw(nested) is None:
        return RopeConfig(theta=theta)
    scaling = fields.section(nested)
    theta = scaling.number("rope_theta", theta, low=1e-3, high=1e12)
    valid = ("default", *FAMILIES[family].ropes)
    key = "rope_type" if scaling.raw("rope_type") is not None else "type"
    if scaling.raw(key) is None:
        raise scaling.not_among("type", None, valid)
    kind = scaling.choice(key, "default", valid)
    if key == "rope_type" and scaling.raw("type") not in (None, kind):
        raise scaling.fail("type", f"the same as rope_type, {kind!r}")
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind == "dynamic":
        if scaling.raw("factor") is None:
            raise scaling.fail("factor", "a number of at least 1")
        factor = scaling.number("factor", 1.0, low=1.0, high=1e6)
        return RopeConfig(theta=theta, kind="dynamic", factor=factor)
    original = fields.integer("original_max_position_embeddings", 4096, high=MAX_POSITIONS)
    return RopeConfig(
        theta=theta,
        kind="yarn" if kind == "yarn" else "su",
        original_max_positions=scaling.integer(
            "original_max_position_embeddings", original, high=MAX_POSITIONS
        ),
        short_factor=scaling.numbers("short_factor", low=1e-6, high=1e9, most=MAX_WIDTH),
        long_factor=scaling.numbers("long_factor", low=1e-6, high=1e9, most=MAX_WIDTH),
    )


def _sliding_window(fields: Fields, family: Family) -> int | None:
    if family not in ("phi3", "qwen2"):
        return None
    if family == "phi3":
        window = fields.integer("sliding_window", 0, low=0, high=MAX_POSITIONS)
        return window or None
    if not fields.boolean("use_sliding_window", False):
        return None
    first = fields.integer("max_window_layers", 28, low=0, high=MAX_LAYERS)
    if first >= fields.integer("num_hidden_layers", 32, high=MAX_LAYERS):
        return None
    if first > 0:
        raise fields.fail(
            "max_window_layers", "0 or the number of layers: a window in some is unknown"
        )
    return fields.integer("sliding_window", 4096, high=MAX_POSITIONS)
