"""Random models for measuring: the shapes of a preset in the precision asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tessera.diagnostics.bench import BenchPlan, bench, random_model
from tessera.engine.kernels import KernelLinear, TwoSpeedLinear
from tessera.errors import UserError
from tessera.presets import PRESETS


def small():
    """The 2B with one narrow block a tower."""
    config = PRESETS["Mini-InternVL-Chat-2B-V1-5"]()
    vision = replace(config.vision, num_layers=1, width=64, num_heads=1, mlp_width=64)
    language = replace(
        config.language, num_layers=1, width=128, num_heads=2, num_kv_heads=1, head_width=64,
        mlp_width=64, vocab_size=500,
    )  # fmt: skip
    return replace(config, vision=vision, language=language)


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("float32", torch.nn.Linear), ("int8", KernelLinear), ("int4", TwoSpeedLinear)],
)
def test_a_random_model_has_the_linears_of_its_precision(precision: str, kind: type) -> None:
    model, name = random_model(small(), precision)
    assert name == precision
    assert type(model.get_submodule("language.blocks.0.mlp.down")) is kind
    ids = torch.arange(5)[None]
    assert model(model.language.embedding(ids)).isfinite().all()


def test_a_preset_is_measured_with_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", small)
    result = bench("small", precision="int8", plan=BenchPlan(prompts=(30,), new_tokens=2))
    assert result.precision == "int8"
    assert 0 < result.token_s < 10
    assert any("30 positions" in line for line in result.lines())


def test_a_preset_that_does_not_fit_is_refused_before_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tessera.diagnostics.bench.free_memory", lambda: 50_000_000_000)
    with pytest.raises(UserError, match="take 102.1 GB in float32, 50.0 GB are free"):
        bench("InternVL-Chat-V1-5", precision="float32")
    with pytest.raises(UserError, match="a prompt of 40000 positions"):
        bench("InternVL-Chat-V1-5", plan=BenchPlan(prompts=(40_000,)))
