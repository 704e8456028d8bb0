"""Integer weights: how far they are from the ones they replace, and that gradients pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tessera.models.quantized import (
    GROUP,
    LEVELS,
    Int4Linear,
    Int8Embedding,
    Int8Linear,
    QuantizedLinear,
    quantise_rows,
)


def linear(in_width: int = 192, out_width: int = 40, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(in_width, out_width, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
def test_a_quantised_linear_is_a_linear_with_the_dequantised_weight(
    kind: type[QuantizedLinear], bias: bool
) -> None:
    made = kind.of(linear(bias=bias))  # type: ignore[attr-defined]
    x = torch.randn(2, 3, 192)
    wanted = x @ made.weight().T
    if bias:
        wanted = wanted + linear().bias
    torch.testing.assert_close(made(x), wanted)
    assert made.widths == (192, 40)


def test_no_weight_moves_by_more_than_half_a_step() -> None:
    weight = linear().weight.detach()
    step = weight.abs().amax(1, keepdim=True) / LEVELS
    assert ((Int8Linear.of(linear()).weight() - weight).abs() <= step * 0.5001).all()
    groups = weight.unflatten(1, (-1, GROUP))
    step = groups.abs().amax(2, keepdim=True) / 8
    error = (Int4Linear.of(linear()).weight().unflatten(1, (-1, GROUP)) - groups).abs()
    # The side opposite to the largest weight ends at 7 steps, one less than it may need.
    assert (error <= step * 1.0001).all()
    assert (error <= step * 0.5001).float().mean() > 0.9


def test_levels_fit_two_products_into_16_bits() -> None:
    levels = Int8Linear.of(linear()).levels_OI
    assert levels.abs().max() == LEVELS
    assert 2 * 255 * LEVELS < 2**15


def test_the_largest_weight_of_a_group_is_kept_exactly() -> None:
    weight = linear().weight.detach().unflatten(1, (-1, GROUP))
    at = weight.abs().argmax(2, keepdim=True)
    kept = Int4Linear.of(linear()).weight().unflatten(1, (-1, GROUP))
    torch.testing.assert_close(kept.gather(2, at), weight.gather(2, at))


@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
def test_rows_of_zeros_stay_zeros(kind: type[QuantizedLinear]) -> None:
    zeros = linear(bias=False)
    zeros.weight.data[3] = 0
    made = kind.of(zeros).weight()  # type: ignore[attr-defined]
    assert (made[3] == 0).all()
    assert made.isfinite().all()


def test_large_matrices_are_quantised_in_parts_like_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = [kind.of(linear()).weight() for kind in (Int8Linear, Int4Linear)]
    monkeypatch.setattr("tessera.models.quantized._CHUNK", 200)
    for kind, wanted in zip((Int8Linear, Int4Linear), whole, strict=True):
        assert torch.equal(kind.of(linear()).weight(), wanted)


@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
def test_gradients_pass_through_to_the_input(kind: type[QuantizedLinear]) -> None:
    made = kind.of(linear())  # type: ignore[attr-defined]
    x = torch.randn(5, 192, requires_grad=True)
    made(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, made.weight().sum(0).expand(5, -1))
    assert not list(made.parameters())


def test_an_embedding_dequantises_the_rows_it_looks_up() -> None:
    weight = torch.randn(50, 16)
    table = Int8Embedding(*quantise_rows(weight))
    ids = torch.tensor([[3, 7], [3, 49]])
    assert table(ids).shape == (2, 2, 16)
    step = weight.abs().amax(1) / LEVELS
    assert ((table(ids) - weight[ids]).abs() <= step[ids][..., None] * 0.5001).all()
