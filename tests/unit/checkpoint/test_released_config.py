import copy
import json

import pytest

from tessera.checkpoint.names import config_from_released, config_to_released, unread_keys
from tessera.config import RopeConfig, VisionConfig
from tessera.errors import CheckpointError, ConfigError
from tests.unit.checkpoint.tiny import random_config


@pytest.fixture
def released() -> dict:
    return copy.deepcopy(config_to_released(random_config("internlm2", 3)))


def minimal(architecture: str, **language) -> dict:
    """A config as transformers writes it: what equals the class default is left out."""
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "template": "Hermes-2",
        "vision_config": {"model_type": "intern_vit_6b"},
        "llm_config": {"architectures": [architecture], **language},
    }


def test_omitted_fields_get_the_defaults_of_the_published_classes():
    config = config_from_released(minimal("LlamaForCausalLM"))
    assert config.vision == VisionConfig(
        width=3200, num_layers=48, num_heads=25, mlp_width=12_800, norm="rms_norm", qkv_bias=False,
        qk_norm=True, image_size=224,
    )  # fmt: skip
    assert (config.shuffle_version, config.max_tiles, config.select_layer) == ("v1", 6, -1)
    assert (config.dynamic_tiling, config.use_thumbnail, config.tile_size) == (False, False, 224)
    assert config.shuffle_factor == 2
    assert config.system_message is None
    language = config.language
    assert (language.width, language.num_layers, language.num_heads) == (4096, 32, 32)
    assert (language.num_kv_heads, language.head_width, language.mlp_width) == (32, 128, 11_008)
    assert (language.vocab_size, language.max_positions, language.norm_eps) == (32_000, 2048, 1e-6)
    assert (language.rope, language.tied_embeddings) == (RopeConfig(), False)


@pytest.mark.parametrize(
    ("architecture", "extra", "expected"),
    [
        ("InternLM2ForCausalLM", {"bias": False}, (103_168, 4096, 11_008, 2048, 32, False)),
        ("Phi3ForCausalLM", {}, (32_064, 3072, 8192, 4096, 32, False)),
        ("Qwen2ForCausalLM", {}, (151_936, 4096, 22_016, 32_768, 32, True)),
    ],
)
def test_every_family_has_its_own_defaults(architecture, extra, expected):
    language = config_from_released(minimal(architecture, **extra)).language
    assert expected == (
        language.vocab_size, language.width, language.mlp_width, language.max_positions,
        language.num_kv_heads, language.qkv_bias,
    )  # fmt: skip


def test_the_golden_configs_are_read_without_a_single_unknown_key(golden):
    directories = sorted(golden.glob("chat-*"))
    assert len(directories) == 4
    for directory in directories:
        data = json.loads((directory / "config.json").read_text())
        config = config_from_released(data)
        assert unread_keys(data) == []
        assert config.tile_size == 56
        assert config_from_released(config_to_released(config, base=data)) == config


def test_a_written_config_keeps_token_ids_and_drops_references_to_code():
    data = minimal("Phi3ForCausalLM", eos_token_id=32_000, auto_map={"AutoConfig": "evil.py"})
    data["auto_map"] = {"AutoModel": "modeling.InternVL"}
    written = config_to_released(config_from_released(data), base=data)
    assert written["llm_config"]["eos_token_id"] == 32_000
    assert "auto_map" not in json.dumps(written)


def test_unknown_keys_are_listed_with_their_place(released):
    released["surprise"] = released["llm_config"]["also"] = 1
    assert unread_keys(released) == ["surprise", "llm_config.also"]


def factors(kind: str) -> dict:
    return {"rope_scaling": {"type": kind, "short_factor": [1.0], "long_factor": [2]}}


@pytest.mark.parametrize(
    ("family", "change", "kind"),
    [
        ("internlm2", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ("internlm2", {"rope_scaling": {"rope_type": "dynamic", "factor": 3}}, "dynamic"),
        ("llama", {"rope_scaling": None}, "plain"),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}, "plain"),
        ("phi3", factors("su"), "su"),
        ("phi3", factors("longrope"), "su"),
        ("phi3", factors("yarn"), "yarn"),
    ],
)
def test_rope_variants_are_understood(family, change, kind):
    data = config_to_released(random_config(family, 0))
    count = data["llm_config"]["head_dim"] // 2
    scaling = change.get("rope_scaling")
    for name in ("short_factor", "long_factor"):
        if scaling and name in scaling:
            scaling[name] = scaling[name] * count
    data["llm_config"].update(change)
    assert config_from_released(data).language.rope.kind == kind


def test_theta_in_rope_parameters_wins():
    data = minimal("LlamaForCausalLM", rope_parameters={"rope_type": "default", "rope_theta": 5e6})
    assert config_from_released(data).language.rope == RopeConfig(theta=5e6)


@pytest.mark.parametrize(
    ("change", "window"),
    [
        ({"sliding_window": 4096}, None),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 0}, 4096),
        ({"sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 32}, None),
    ],
)
def test_the_window_of_qwen2_counts_only_where_it_is_used(change, window):
    config = config_from_released(minimal("Qwen2ForCausalLM", **change))
    assert config.language.sliding_window == window


def test_a_null_image_size_means_that_of_the_encoder(released):
    released["force_image_size"] = None
    assert config_from_released(released).tile_size == released["vision_config"]["image_size"]


WRONG = [
    ((), "model_type", "internvl_chatt", "did you mean 'internvl_chat'?"),
    ((), "model_type", "internvl", "dual encoder"),
    ((), "model_type", None, None),
    ((), "architectures", ["InternVLChat"], "did you mean 'internvlchatmodel'?"),
    ((), "architectures", ["InternVisionModel"], "architectures"),
    ((), "ps_version", "v3", "'v1', 'v2'"),
    ((), "ps_version", 2, "'v1', 'v2'"),
    ((), "template", None, "template"),
    ((), "template", 7, "template"),
    ((), "downsample_ratio", 0.4, "1/n"),
    ((), "downsample_ratio", 0, "downsample_ratio"),
    ((), "downsample_ratio", float("nan"), "downsample_ratio"),
    ((), "select_layer", 99, "select_layer"),
    ((), "select_layer", -1.0, "whole number"),
    ((), "select_layer", True, "whole number"),
    ((), "use_thumbnail", "yes", "true or false"),
    ((), "use_thumbnail", 1, "true or false"),
    ((), "force_image_size", 30, "tile_size"),
    ((), "force_image_size", 1e12, "whole number"),
    ((), "min_dynamic_patch", 0, "min_dynamic_patch"),
    ((), "min_dynamic_patch", 900, "tiles"),
    ((), "system_message", ["x"], "text"),
    ((), "system_message", "x" * 100_000, "65,536"),
    ((), "quantization_config", {"quant_method": "bitsandbytes"}, "unquantised"),
    ((), "vision_config", None, "vision_config"),
    ((), "vision_config", [1], "vision_config"),
    ((), "llm_config", "x", "llm_config"),
    (("vision_config",), "hidden_act", "relu", "'gelu'"),
    (("vision_config",), "norm_type", "rmsnorm", "did you mean 'rms_norm'?"),
    (("vision_config",), "model_type", "clip", "intern_vit_6b"),
    (("vision_config",), "num_channels", 4, "num_channels"),
    (("vision_config",), "hidden_size", 10**12, "65,536"),
    (("vision_config",), "hidden_size", -3200, "hidden_size"),
    (("vision_config",), "hidden_size", "3200", "'3200'"),
    (("vision_config",), "num_hidden_layers", 10**6, "num_hidden_layers"),
    (("vision_config",), "layer_norm_eps", float("inf"), "layer_norm_eps"),
    (("vision_config",), "layer_norm_eps", 0, "layer_norm_eps"),
    (("vision_config",), "qk_normalization", 1, "true or false"),
    (("llm_config",), "architectures", ["InternLM3ForCausalLM"], "'InternLM2ForCausalLM'?"),
    (("llm_config",), "architectures", ["LlamaForCausalLM"], "model_type"),
    (("llm_config",), "model_type", "internlm", "did you mean 'internlm2'?"),
    (("llm_config",), "hidden_act", "gelu", "'silu'"),
    (("llm_config",), "vocab_size", 2**62, "vocab_size"),
    (("llm_config",), "num_key_value_heads", 7, "multiple"),
    (("llm_config",), "rope_scaling", {"type": "ntk"}, "'dynamic'"),
    (("llm_config",), "rope_scaling", {"factor": 2.0}, "rope_scaling.type"),
    (("llm_config",), "rope_scaling", {"type": "dynamic"}, "factor"),
    (("llm_config",), "rope_scaling", {"type": "dynamic", "factor": "2"}, "factor"),
    (("llm_config",), "rope_scaling", {"type": "su", "factor": 2}, "'dynamic'"),
    (("llm_config",), "rope_scaling", "dynamic", "rope_scaling"),
    (("llm_config",), "rope_theta", 10**400, "rope_theta"),
    (("llm_config",), "rope_theta", -1, "rope_theta"),
    (("llm_config",), "bias", True, "biases"),
    (("llm_config",), "bias", None, "biases"),
    (("llm_config",), "partial_rotary_factor", 0.5, "partial_rotary_factor"),
    (("llm_config",), "head_dim", 5, "even"),
]


@pytest.mark.parametrize(("path", "key", "value", "hint"), WRONG)
def test_a_wrong_value_is_named_with_its_key(released, path, key, value, hint):
    part = released
    for name in path:
        part = part[name]
    part[key] = value
    if hint is None:
        part.pop("architectures")
    with pytest.raises(ConfigError) as error:
        config_from_released(released, where="DIR/config.json")
    text = str(error.value)
    assert text.startswith("DIR/config.json: ")
    assert "\n" not in text
    assert len(text) < 500
    assert (hint or key).lower() in text.lower()


def test_lora_inside_is_refused_with_the_remedy(released):
    released["use_llm_lora"] = 16
    with pytest.raises(CheckpointError, match="use_llm_lora is 16.*Merge"):
        config_from_released(released)


def test_yarn_without_factor_lists_is_refused():
    data = minimal("Phi3ForCausalLM", rope_scaling={"type": "yarn", "factor": 4.0})
    with pytest.raises(ConfigError, match="short_factor"):
        config_from_released(data)


def test_a_window_in_some_layers_only_is_refused():
    data = minimal("Qwen2ForCausalLM", use_sliding_window=True, max_window_layers=4)
    with pytest.raises(ConfigError, match="max_window_layers"):
        config_from_released(data)


def test_what_the_released_classes_cannot_say_is_refused():
    from dataclasses import replace

    config = random_config("llama", 0)
    for change in ({"qkv_bias": True}, {"sliding_window": 5}):
        with pytest.raises(ConfigError, match="cannot say"):
            config_to_released(replace(config, language=replace(config.language, **change)))
