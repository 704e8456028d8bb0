"""Integer kernels against the dequantised products they stand for."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from tessera.engine.kernels import KernelLinear, TwoSpeedLinear, undisturbed
from tessera.models.quantized import Int4Linear, Int8Linear, QuantizedLinear


def quantised(kind: type[QuantizedLinear], in_width: int, out_width: int) -> QuantizedLinear:
    torch.manual_seed(0)
    return kind.of(nn.Linear(in_width, out_width))  # type: ignore[attr-defined,no-any-return]


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("rows", [1, 2, 9, 300])
@pytest.mark.parametrize("widths", [(64, 8), (192, 333), (2048, 100)])
@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
def test_only_the_rounding_of_activations_separates_a_kernel_from_its_weights(
    kind: type[QuantizedLinear], widths: tuple[int, int], rows: int
) -> None:
    linear = quantised(kind, *widths)
    x = torch.randn(rows, widths[0])
    assert distance(KernelLinear(linear)(x), linear(x)) < 0.012


def test_weights_and_activations_at_their_limits_do_not_overflow() -> None:
    linear = quantised(Int8Linear, 64, 16)
    linear.levels_OI.fill_(64)  # type: ignore[operator,union-attr]
    x = torch.ones(4, 64)
    x[1, 0] = -1.0  # so that one is at the upper end of what 8 bits hold
    assert distance(KernelLinear(linear)(x), linear(x)) < 0.012


def test_a_row_does_not_feel_how_large_another_is() -> None:
    kernel = KernelLinear(quantised(Int8Linear, 192, 40))
    x = torch.randn(2, 192)
    alone = kernel(x[:1])
    x[1] *= 1e4
    assert distance(kernel(x)[:1] - kernel.bias_O, alone - kernel.bias_O) < 0.012
    assert kernel(torch.zeros(1, 192)).isfinite().all()


def test_leading_axes_and_strided_inputs_are_kept() -> None:
    linear = quantised(Int8Linear, 192, 40)
    kernel = KernelLinear(linear)
    x = torch.randn(192, 3, 5).permute(2, 1, 0)
    found = kernel(x)
    assert found.shape == (5, 3, 40)
    assert distance(found, linear(x)) < 0.012


@pytest.mark.parametrize("rows", [1, 20])
def test_one_position_is_read_from_int4_and_many_computed_in_int8(rows: int) -> None:
    small, large = quantised(Int4Linear, 192, 40), quantised(Int8Linear, 192, 40)
    both = TwoSpeedLinear(KernelLinear(small), KernelLinear(large))
    one, many = torch.randn(rows, 1, 192), torch.randn(rows, 2, 192)
    assert distance(both(one), small(one)) < 0.012 < distance(both(one), large(one))
    assert distance(both(many), large(many)) < 0.012 < distance(both(many), small(many))


def test_torch_uses_one_thread_for_tokens_of_a_model_with_kernels_only() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        plain, fast = nn.Linear(64, 8), KernelLinear(quantised(Int8Linear, 64, 8))
        with undisturbed(plain):
            assert torch.get_num_threads() == 3
        with contextlib.suppress(ValueError), undisturbed(nn.Sequential(fast)):
            assert torch.get_num_threads() == 1
            raise ValueError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
