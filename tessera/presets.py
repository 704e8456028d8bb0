"""The published models as configs: one function a model, numbers only.

Numbers are those of the released `config.json` files and model cards (InternVL 1.0 to 1.5); a
shipped config overrides them when a checkpoint is loaded. A variant calls its base and replaces
what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tessera.config import LanguageConfig, ModelConfig, RopeConfig, VisionConfig

# --- vision encoders ---


def internvit_6b_224() -> VisionConfig:
    """InternViT-6B-224px (arXiv 2312.14238 table 1)."""
    return VisionConfig(
        width=3200,
        num_layers=48,
        num_heads=25,
        mlp_width=12800,
        norm="rms_norm",
        qkv_bias=False,
        qk_norm=True,
        image_size=224,
    )


def internvit_6b_448_v1_0() -> VisionConfig:
    """InternViT-6B-448px-V1-0: all 48 blocks, position embedding for 448 pixels."""
    return replace(internvit_6b_224(), image_size=448)


def internvit_6b_448_v1_2() -> VisionConfig:
    """InternViT-6B-448px-V1-2: the last three blocks removed."""
    return replace(internvit_6b_448_v1_0(), num_layers=45)


def internvit_6b_448_v1_5() -> VisionConfig:
    """InternViT-6B-448px-V1-5: V1-2 trained on with dynamic resolution."""
    return internvit_6b_448_v1_2()


def internvit_300m_448() -> VisionConfig:
    """InternViT-300M-448px, distilled from the 6B."""
    return VisionConfig(
        width=1024,
        num_layers=24,
        num_heads=16,
        mlp_width=4096,
        norm="layer_norm",
        qkv_bias=True,
        qk_norm=False,
    )


# --- language models ---


def _internlm2_20b() -> LanguageConfig:
    return LanguageConfig(
        family="internlm2",
        vocab_size=92553,
        width=6144,
        num_layers=48,
        num_heads=48,
        num_kv_heads=8,
        head_width=128,
        mlp_width=16384,
        max_positions=32768,
        rope=RopeConfig(theta=1_000_000.0, kind="dynamic", factor=3.0),
    )


def _internlm2_1_8b() -> LanguageConfig:
    return replace(
        _internlm2_20b(),
        width=2048,
        num_layers=24,
        num_heads=16,
        mlp_width=8192,
        rope=RopeConfig(theta=1_000_000.0, kind="dynamic", factor=2.0),
    )


# LongRoPE factors of Phi-3-mini-128k-instruct are read from a shipped config; these stand in for
# them where only shapes matter (parameter counts, memory).
_PHI3_FACTORS = (1.0,) * 48


def _phi3_mini_128k() -> LanguageConfig:
    return LanguageConfig(
        family="phi3",
        vocab_size=32020,
        width=3072,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        head_width=96,
        mlp_width=8192,
        max_positions=131072,
        rope=RopeConfig(
            kind="su",
            original_max_positions=4096,
            short_factor=_PHI3_FACTORS,
            long_factor=_PHI3_FACTORS,
        ),
        sliding_window=262144,
    )


def _hermes_2_yi_34b() -> LanguageConfig:
    return LanguageConfig(
        family="llama",
        vocab_size=64009,
        width=7168,
        num_layers=60,
        num_heads=56,
        num_kv_heads=8,
        head_width=128,
        mlp_width=20480,
        max_positions=4096,
        rope=RopeConfig(theta=5_000_000.0),
    )


def _llama2_13b() -> LanguageConfig:
    return LanguageConfig(
        family="llama",
        vocab_size=32009,
        width=5120,
        num_layers=40,
        num_heads=40,
        num_kv_heads=40,
        head_width=128,
        mlp_width=13824,
        max_positions=4096,
    )


# --- chat models ---


def internvl_chat_v1_1() -> ModelConfig:
    """InternVL-Chat-V1-1 (19B): one tile, fourth layer from the end, pixel shuffle v1."""
    return ModelConfig(
        vision=internvit_6b_448_v1_0(),
        language=_llama2_13b(),
        template="internvl_zh",
        select_layer=-4,
        shuffle_version="v1",
        dynamic_tiling=False,
        use_thumbnail=False,
        max_tiles=1,
    )


def internvl_chat_v1_2() -> ModelConfig:
    """InternVL-Chat-V1-2 (40B): one tile, pixel shuffle v1."""
    return ModelConfig(
        vision=internvit_6b_448_v1_2(),
        language=_hermes_2_yi_34b(),
        template="Hermes-2",
        shuffle_version="v1",
        dynamic_tiling=False,
        use_thumbnail=False,
        max_tiles=1,
    )


def internvl_chat_v1_2_plus() -> ModelConfig:
    """InternVL-Chat-V1-2-Plus (40B): V1-2 with ten times the fine-tuning data."""
    return internvl_chat_v1_2()


def internvl_chat_v1_5() -> ModelConfig:
    """InternVL-Chat-V1-5 (26B; arXiv 2404.16821)."""
    return ModelConfig(
        vision=internvit_6b_448_v1_5(), language=_internlm2_20b(), template="internlm2-chat"
    )


def internvl_chat_v1_5_plus() -> ModelConfig:
    """InternVL-Chat-V1-5-Plus (40B, never released)."""
    return replace(internvl_chat_v1_5(), language=_hermes_2_yi_34b(), template="Hermes-2")


def mini_internvl_chat_2b_v1_5() -> ModelConfig:
    """Mini-InternVL-Chat-2B-V1-5."""
    return replace(internvl_chat_v1_5(), vision=internvit_300m_448(), language=_internlm2_1_8b())


def mini_internvl_chat_4b_v1_5() -> ModelConfig:
    """Mini-InternVL-Chat-4B-V1-5."""
    return replace(mini_internvl_chat_2b_v1_5(), language=_phi3_mini_128k(), template="phi3-chat")


PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "InternVL-Chat-V1-1": internvl_chat_v1_1,
    "InternVL-Chat-V1-2": internvl_chat_v1_2,
    "InternVL-Chat-V1-2-Plus": internvl_chat_v1_2_plus,
    "InternVL-Chat-V1-5": internvl_chat_v1_5,
    "InternVL-Chat-V1-5-Plus": internvl_chat_v1_5_plus,
    "Mini-InternVL-Chat-2B-V1-5": mini_internvl_chat_2b_v1_5,
    "Mini-InternVL-Chat-4B-V1-5": mini_internvl_chat_4b_v1_5,
}

VISION_PRESETS: dict[str, Callable[[], VisionConfig]] = {
    "InternViT-6B-224px": internvit_6b_224,
    "InternViT-6B-448px-V1-0": internvit_6b_448_v1_0,
    "InternViT-6B-448px-V1-2": internvit_6b_448_v1_2,
    "InternViT-6B-448px-V1-5": internvit_6b_448_v1_5,
    "InternViT-300M-448px": internvit_300m_448,
}
