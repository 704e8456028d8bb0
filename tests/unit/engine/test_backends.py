from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.engine import backends
from tessera.engine.backends import (
    Precision,
    choose_precision,
    move_checked,
    plan_device,
    probe_numbers,
)
from tessera.errors import ConfigError
from tessera.models.chat import ChatModel

Build = Callable[..., ChatModel]


def test_a_precision_that_is_asked_for_is_taken() -> None:
    assert choose_precision("bfloat16") == Precision("bfloat16", "bfloat16 as asked for")
    assert choose_precision("float32", "cuda").dtype == torch.float32
    assert choose_precision("int8").is_integer


def test_the_default_is_float32_on_a_cpu_without_fast_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "fast_bfloat16_unit", lambda: None)
    chosen = choose_precision("default")
    assert chosen.name == "float32"
    assert "no fast bfloat16" in chosen.reason
    assert "\n" not in chosen.reason


def test_the_default_is_bfloat16_where_the_cpu_is_fast_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    for requested in ("default", "auto"):
        chosen = choose_precision(requested)
        assert chosen.dtype == torch.bfloat16
        assert "AVX512-BF16" in chosen.reason


def test_metal_gets_float32() -> None:
    assert choose_precision("default", "mps").name == "float32"


def test_auto_takes_integers_on_a_cpu_and_fewer_bits_for_large_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "fast_bfloat16_unit", lambda: None)
    assert choose_precision("auto", num_params=150_000_000).name == "int8"
    large = choose_precision("auto", num_params=2_206_000_000)
    assert (large.name, large.dtype) == ("int4", torch.float32)
    assert "2.2 billion parameters" in large.reason
    assert choose_precision("auto", "mps", num_params=2_206_000_000).name == "float32"


def test_integers_are_refused_on_another_device() -> None:
    with pytest.raises(ConfigError, match="int8 is computed on the CPU only: add --device cpu"):
        choose_precision("int8", "cuda")


def test_an_unknown_precision_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'bfloat16'"):
        choose_precision("bfloat")


def test_an_absent_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="not available here, there are auto, .*cpu"):
        plan_device("tpu")
    assert plan_device("cpu") == "cpu"
    assert plan_device("auto") in ("cpu", "cuda", "mps")


def test_the_probe_uses_both_towers(tiny_model: Build) -> None:
    model = tiny_model()
    before = probe_numbers(model)
    model.vision.patch.weight.data *= 1.5
    assert not torch.equal(probe_numbers(model), before)
    assert before.shape == (8, model.config.language.vocab_size)


def test_a_device_that_agrees_with_the_cpu_is_used(tiny_model: Build) -> None:
    device, reason = move_checked(tiny_model().float(), "cpu:0")
    assert device == "cpu:0"
    assert "passed" in reason


@pytest.mark.parametrize("wrong", [1.01, torch.nan])
def test_a_device_with_other_numbers_is_not_used(
    wrong: float, tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([torch.ones(8, 5), torch.full((8, 5), wrong)])
    monkeypatch.setattr(backends, "probe_numbers", lambda model: next(answers))
    device, reason = move_checked(tiny_model().float(), "cpu:0")
    assert device == "cpu"
    assert "was not used, its numbers differ" in reason


def test_a_device_that_fails_is_not_used(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def probe(model: ChatModel) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("secret path /home/someone")
        return torch.ones(1)

    monkeypatch.setattr(backends, "probe_numbers", probe)
    device, reason = move_checked(tiny_model().float(), "cpu:0")
    assert device == "cpu"
    assert "failed the self-check (RuntimeError)" in reason
    assert "secret" not in reason
