"""Tiny random models as configs, named tensors and directories, for all tests of checkpoints."""

import json
import random
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from tessera.checkpoint.names import Entry, config_to_released, weight_table
from tessera.config import Family, LanguageConfig, ModelConfig, RopeConfig, VisionConfig

FAMILIES: tuple[Family, ...] = ("internlm2", "phi3", "llama", "qwen2")


def random_config(family: Family, seed: int) -> ModelConfig:
    """Return a small model: odd head counts, grouped heads, ties, any selected layer."""
    pick = random.Random(f"{family} {seed}")
    heads = pick.choice([1, 2, 3, 5])
    six_b = pick.random() < 0.5
    vision = VisionConfig(
        width=heads * pick.choice([4, 6]),
        num_layers=pick.randint(1, 3),
        num_heads=heads,
        mlp_width=pick.choice([10, 24]),
        norm="rms_norm" if six_b else "layer_norm",
        qkv_bias=not six_b,
        qk_norm=six_b,
        image_size=pick.choice([28, 56]),
        patch_size=14,
        norm_eps=pick.choice([1e-6, 1e-5]),
        drop_path_prob=pick.choice([0.0, 0.1]),
        layer_scale_init=pick.choice([0.1, 1.0]),
    )
    return ModelConfig(
        vision=vision,
        language=_random_language(family, pick),
        template=pick.choice(["internlm2-chat", "Hermes-2", "phi3-chat"]),
        system_message=pick.choice([None, "", "你好 \U0001f600"]),
        select_layer=pick.randint(-vision.num_layers - 1, vision.num_layers),
        shuffle_factor=pick.choice([1, 2]),
        shuffle_version=pick.choice(["v1", "v2"]),
        tile_size=pick.choice([28, 56]),
        dynamic_tiling=pick.random() < 0.5,
        use_thumbnail=pick.random() < 0.5,
        min_tiles=pick.choice([1, 2]),
        max_tiles=pick.choice([2, 12]),
        pad_to_square=pick.random() < 0.5,
    )


def _random_language(family: Family, pick: random.Random) -> LanguageConfig:
    kv_heads, head = pick.choice([1, 2, 3]), pick.choice([4, 6, 8])
    heads = kv_heads * pick.choice([1, 2, 3])
    ropes = {"phi3": ["plain", "su", "yarn"]}.get(family, ["plain", "dynamic"])
    kind = pick.choice(ropes)
    rope = RopeConfig(theta=pick.choice([1e4, 5e6]))
    if kind == "dynamic":
        rope = replace(rope, kind="dynamic", factor=pick.choice([2.0, 3.5]))
    elif kind != "plain":
        factors = [tuple(1.0 + pick.random() for _ in range(head // 2)) for _ in range(2)]
        rope = replace(
            rope, kind=kind, original_max_positions=64, short_factor=factors[0],
            long_factor=factors[1],
        )  # fmt: skip
    return LanguageConfig(
        family=family,
        vocab_size=pick.randint(20, 40),
        width=heads * head if pick.random() < 0.7 else 20,
        num_layers=pick.randint(1, 3),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_width=head,
        mlp_width=pick.randint(5, 20),
        max_positions=pick.choice([128, 4096]),
        norm_eps=pick.choice([1e-5, 1e-6]),
        rope=rope,
        qkv_bias=family == "qwen2",
        tied_embeddings=pick.random() < 0.5,
        sliding_window=pick.choice([None, 32]) if family in ("phi3", "qwen2") else None,
    )


def our_shapes(table: list[Entry]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of our tensors."""
    rows: dict[str, int] = {}
    for entry in table:
        rows[entry.ours] = rows.get(entry.ours, 0) + sum(
            stop - start for start, stop in entry.spans
        )
    return {entry.ours: (rows[entry.ours], *entry.shape[1:]) for entry in table}


def random_parameters(table: list[Entry], *, seed: int = 0, dtype=torch.float32):
    """Return our named tensors with random values."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).to(dtype)
        for name, shape in our_shapes(table).items()
    }


def released_tensors(parameters, table: list[Entry]):
    """Return the released tensors of ours, by plain indexing."""
    return {
        entry.released: torch.cat(
            [parameters[entry.ours][start:stop] for start, stop in entry.spans]
        ).clone()
        for entry in table
    }


def write_directory(
    directory: Path, config, *, seed: int = 0, dtype=torch.float32, shards: int = 1
):
    """Write a released directory with the format's own library; return our tensors."""
    directory.mkdir(parents=True, exist_ok=True)
    table = weight_table(config)
    parameters = random_parameters(table, seed=seed, dtype=dtype)
    tensors = released_tensors(parameters, table)
    (directory / "config.json").write_text(json.dumps(config_to_released(config)))
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return parameters
    files = {}
    for number in range(shards):
        keys = sorted(tensors)[number::shards]
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file({key: tensors[key] for key in keys}, directory / name)
        files.update(dict.fromkeys(keys, name))
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return parameters


def empty_like(parameters, dtype=torch.float32):
    """Return tensors of the same shapes, filled with a value that no weight has."""
    return {
        name: torch.full(tensor.shape, 777.0, dtype=dtype) for name, tensor in parameters.items()
    }
