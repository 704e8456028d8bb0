"""The smallest chat model that has every part."""

from tessera.config import LanguageConfig, ModelConfig, VisionConfig


def tiny_config(**language) -> ModelConfig:
    numbers = {
        "family": "llama",
        "vocab_size": 96,
        "width": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_width": 8,
        "mlp_width": 48,
        "max_positions": 128,
    }
    return ModelConfig(
        vision=VisionConfig(
            width=24,
            num_layers=2,
            num_heads=3,
            mlp_width=40,
            norm="layer_norm",
            qkv_bias=True,
            qk_norm=False,
            image_size=56,
        ),
        language=LanguageConfig(**{**numbers, **language}),
        template="internlm2-chat",
        tile_size=56,
    )
