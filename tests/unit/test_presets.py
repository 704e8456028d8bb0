"""Every published model, built on the meta device, has the parameters that the papers say."""

import pytest
import torch

from tessera.models.chat import ChatModel
from tessera.models.vision import VisionEncoder
from tessera.presets import PRESETS, VISION_PRESETS


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


VISION = {
    "InternViT-6B-224px": 5_902_793_600,
    "InternViT-6B-448px-V1-0": 5_905_251_200,
    "InternViT-6B-448px-V1-2": 5_536_496_000,
    "InternViT-6B-448px-V1-5": 5_536_496_000,
    "InternViT-300M-448px": 304_012_288,
}

# name: total in millions, its relative tolerance, projector in millions (published, two decimals)
CHAT = {
    "InternVL-Chat-V1-1": (19_000, 0.01, 91.79),
    "InternVL-Chat-V1-2": (40_069, 0.01, 143.17),
    "InternVL-Chat-V1-2-Plus": (40_069, 0.01, 143.17),
    "InternVL-Chat-V1-5": (25_514, 0.0001, 116.43),
    "InternVL-Chat-V1-5-Plus": (40_069, 0.01, 143.17),
    "Mini-InternVL-Chat-2B-V1-5": (2_206, 0.0005, 12.60),
    "Mini-InternVL-Chat-4B-V1-5": (4_147, 0.0005, 22.03),
}

LANGUAGE = {  # millions, as published to the last digit given
    "InternVL-Chat-V1-2": (34_390, 10),
    "InternVL-Chat-V1-5": (19_861, 1),
    "Mini-InternVL-Chat-2B-V1-5": (1_889, 1),
    "Mini-InternVL-Chat-4B-V1-5": (3_821, 1),
}


def test_every_preset_has_a_published_count():
    assert set(VISION) == set(VISION_PRESETS)
    assert set(CHAT) == set(PRESETS)


@pytest.mark.parametrize("name", VISION)
def test_vision_presets_have_exactly_the_published_parameters(name):
    with torch.device("meta"):
        assert count(VisionEncoder(VISION_PRESETS[name]())) == VISION[name]


@pytest.mark.parametrize("name", CHAT)
def test_chat_presets_have_the_published_parameters(name):
    total, tolerance, projector = CHAT[name]
    with torch.device("meta"):
        model = ChatModel(PRESETS[name]())
    assert count(model) / 1e6 == pytest.approx(total, rel=tolerance)
    assert round(count(model.projector) / 1e6, 2) == projector
    if name in LANGUAGE:
        millions, digit = LANGUAGE[name]
        assert abs(count(model.language) / 1e6 - millions) <= digit / 2


@pytest.mark.parametrize("name", CHAT)
def test_released_models_make_256_visual_tokens_of_a_tile(name):
    assert PRESETS[name]().visual_tokens_per_tile == 256


# What spec sections 1.1 and 1.2 (released configs and model cards) say, written down once more.
# select_layer, shuffle, dynamic tiling and thumbnail, template, theta, rope, heads/kv, norm eps
INTERNLM2, HERMES, PHI3 = "internlm2-chat", "Hermes-2", "phi3-chat"
RELEASED = {
    "InternVL-Chat-V1-1": (-4, "v1", False, "internvl_zh", 1e4, "plain", 1.0, 40, 40),
    "InternVL-Chat-V1-2": (-1, "v1", False, HERMES, 5e6, "plain", 1.0, 56, 8),
    "InternVL-Chat-V1-2-Plus": (-1, "v1", False, HERMES, 5e6, "plain", 1.0, 56, 8),
    "InternVL-Chat-V1-5": (-1, "v2", True, INTERNLM2, 1e6, "dynamic", 3.0, 48, 8),
    "InternVL-Chat-V1-5-Plus": (-1, "v2", True, HERMES, 5e6, "plain", 1.0, 56, 8),
    "Mini-InternVL-Chat-2B-V1-5": (-1, "v2", True, INTERNLM2, 1e6, "dynamic", 2.0, 16, 8),
    "Mini-InternVL-Chat-4B-V1-5": (-1, "v2", True, PHI3, 1e4, "su", 1.0, 32, 32),
}


@pytest.mark.parametrize("name", CHAT)
def test_chat_presets_have_the_published_settings(name):
    config = PRESETS[name]()
    language, rope = config.language, config.language.rope
    assert config.dynamic_tiling == config.use_thumbnail
    assert language.norm_eps == 1e-5
    assert not language.tied_embeddings
    assert not language.qkv_bias
    assert RELEASED[name] == (
        config.select_layer, config.shuffle_version, config.dynamic_tiling, config.template,
        rope.theta, rope.kind, rope.factor, language.num_heads, language.num_kv_heads,
    )  # fmt: skip
    assert config.max_tiles == (12 if config.dynamic_tiling else 1)


@pytest.mark.parametrize("name", VISION)
def test_vision_presets_have_the_published_settings(name):
    config = VISION_PRESETS[name]()
    is_6b = "6B" in name
    assert config.norm == ("rms_norm" if is_6b else "layer_norm")
    assert (config.qk_norm, config.qkv_bias) == (is_6b, not is_6b)
    assert (config.norm_eps, config.patch_size) == (1e-6, 14)
    assert config.head_width == (128 if is_6b else 64)
    assert config.image_size == (224 if "224" in name else 448)
