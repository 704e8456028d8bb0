"""Integer weights that are made while a checkpoint is loading."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tessera.checkpoint.loader import load_model
from tessera.checkpoint.names import weight_table
from tessera.config import RopeConfig
from tessera.engine.kernels import KernelLinear, TwoSpeedLinear
from tessera.engine.quantise import Quantiser, plan_quantiser
from tessera.models.chat import ChatModel
from tessera.models.quantized import Int4Linear, Int8Embedding, Int8Linear, quantise_rows
from tests.architecture.source import ROOT
from tests.unit.checkpoint.tiny import FAMILIES, our_shapes, random_config, write_directory

INT4_ONLY = Quantiser(bits=4, keeps_int8=False)
PIXELS = torch.linspace(-2, 2, 3 * 56 * 56).reshape(1, 3, 56, 56)


def wide_config(family: str, *, tied: bool):
    config = random_config(family, 1)
    language = replace(
        config.language, width=64, num_heads=4, num_kv_heads=2, head_width=16, mlp_width=128,
        tied_embeddings=tied, vocab_size=70, rope=RopeConfig(),
    )  # fmt: skip
    return replace(config, language=language, tile_size=56)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "quantiser",
    [Quantiser(bits=8), Quantiser(bits=4), INT4_ONLY],
    ids=["int8", "int4 and int8", "int4"],
)
def test_a_model_quantised_on_load_computes_what_its_quantised_weights_say(
    tmp_path: Path, family: str, tied: bool, quantiser: Quantiser
) -> None:
    config = wide_config(family, tied=tied)
    write_directory(tmp_path, config, shards=3)
    with torch.inference_mode():
        found = load_model(tmp_path, lambda: ChatModel(config), config, converter=quantiser)
        exact = load_model(tmp_path, lambda: ChatModel(config), config)
        if tied:
            exact.language.head = nn.Linear(64, 70, bias=False)
            exact.language.head.weight = exact.language.embedding.weight
        for name, module in exact.named_modules():
            if isinstance(module, nn.Linear):
                is_low = quantiser == INT4_ONLY and name.startswith("language.blocks.")
                wanted = (Int4Linear if is_low else Int8Linear).of(module)
                x = torch.randn(9, module.in_features)
                difference = found.get_submodule(name)(x) - wanted(x)
                assert difference.norm() < 0.012 * wanted(x).norm(), name
        ids = torch.arange(20)
        kept = Int8Embedding(*quantise_rows(exact.language.embedding.weight))
        assert torch.equal(found.language.embedding(ids), kept(ids))
        embeds = torch.cat([found.encode_tiles(PIXELS), found.language.embedding(ids)[None]], 1)
        assert found(embeds).isfinite().all()


def test_nothing_large_stays_in_float32(tmp_path: Path) -> None:
    config = wide_config("llama", tied=True)
    write_directory(tmp_path, config)
    quantiser = Quantiser(bits=4)
    model = load_model(tmp_path, lambda: ChatModel(config), config, converter=quantiser)
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert kinds["vision.blocks.0.attention.qkv"] is KernelLinear
    assert kinds["language.blocks.0.mlp.down"] is TwoSpeedLinear
    assert kinds["language.embedding"] is Int8Embedding
    assert kinds["language.head"] is KernelLinear
    assert nn.Linear not in kinds.values()
    assert max(parameter.ndim for name, parameter in model.language.named_parameters()) == 1
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))


def test_a_width_that_int4_cannot_group_stays_int8(tmp_path: Path) -> None:
    config = wide_config("llama", tied=False)
    config = replace(config, language=replace(config.language, mlp_width=50))
    write_directory(tmp_path, config)
    model = load_model(tmp_path, lambda: ChatModel(config), config, converter=Quantiser(bits=4))
    assert isinstance(model.get_submodule("language.blocks.0.mlp.down"), KernelLinear)
    assert isinstance(model.get_submodule("language.blocks.0.mlp.gate_up"), TwoSpeedLinear)


def test_the_plan_keeps_an_int8_copy_where_memory_is_plenty() -> None:
    shapes = list(our_shapes(weight_table(wide_config("llama", tied=False))).items())
    size = sum(math.prod(shape) for _, shape in shapes)
    assert plan_quantiser("int8", shapes, free=0) == Quantiser(bits=8)
    assert plan_quantiser("int4", shapes, free=None).keeps_int8
    assert plan_quantiser("int4", shapes, free=8 * size).keeps_int8
    assert not plan_quantiser("int4", shapes, free=size).keeps_int8


MEASURE = """
import resource, sys
from dataclasses import replace
import onnx, onnxruntime, torch
from tessera.diagnostics.bench import ChatModel, random_model
from tessera.engine.quantise import plan_quantiser
from tessera.presets import PRESETS
torch.set_num_threads(1)
config = PRESETS["Mini-InternVL-Chat-2B-V1-5"]()
config = replace(
    config, vision=replace(config.vision, num_layers=2),
    language=replace(config.language, num_layers=4, vocab_size=5000),
)
with torch.device("meta"):
    shapes = [(n, tuple(p.shape)) for n, p in ChatModel(config).named_parameters()]
planned = sum(plan_quantiser(sys.argv[1], shapes, free=None).num_bytes(*s) for s in shapes)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = resident()
model, _ = random_model(config, sys.argv[1])
print(planned, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integer_weights_take_the_memory_that_was_planned(precision: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, precision],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    planned, resident = map(int, done.stdout.split())
    assert planned > 2e8
    assert 0.9 < resident / planned < 1.15
