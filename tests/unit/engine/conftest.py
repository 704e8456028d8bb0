"""Tiny chat models with random weights, one a family, and prompts with pictures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.config import LanguageConfig, ModelConfig, RopeConfig, VisionConfig
from tessera.models.chat import ChatModel

VISUAL_ID = 3
VOCAB = 60

_VISION = VisionConfig(
    width=8, num_layers=1, num_heads=2, mlp_width=12, norm="layer_norm", qkv_bias=True,
    qk_norm=False, image_size=8, patch_size=2,
)  # fmt: skip
_SU = RopeConfig(
    kind="su", original_max_positions=64, short_factor=(1.0, 1.1), long_factor=(2.0, 3.0)
)
FAMILIES: dict[str, dict[str, object]] = {
    "internlm2": {"rope": RopeConfig(theta=1e6, kind="dynamic", factor=2.0)},
    "phi3": {"rope": _SU, "num_kv_heads": 6, "sliding_window": 9},
    "llama": {"tied_embeddings": True},
    "qwen2": {"qkv_bias": True},
}


def make_model(family: str = "llama", *, max_positions: int = 64, seed: int = 0) -> ChatModel:
    numbers: dict[str, object] = {
        "vocab_size": VOCAB, "width": 24, "num_layers": 2, "num_heads": 6, "num_kv_heads": 2,
        "head_width": 4, "mlp_width": 20, "max_positions": max_positions,
    }  # fmt: skip
    language = LanguageConfig(family=family, **(numbers | FAMILIES[family]))  # type: ignore[arg-type]
    config = ModelConfig(vision=_VISION, language=language, template="internlm2-chat", tile_size=8)
    torch.manual_seed(seed)
    model = ChatModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double().eval()  # float64: rounding can never decide between two tokens


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., ChatModel]:
    """Build a model by family; equal arguments give equal weights."""
    return make_model
