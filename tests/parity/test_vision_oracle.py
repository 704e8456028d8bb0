"""The vision encoder and the projector against naive float64 versions of themselves."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from tessera.config import VisionConfig
from tessera.models.projector import Projector, pixel_shuffle
from tessera.models.vision import VisionEncoder
from tests.parity import naive

pytestmark = pytest.mark.parity
TOLERANCE = 1e-10  # float64 on both sides
INTERPOLATED = 1e-5  # positions are interpolated in float32, as published


def random_config(seed: int) -> VisionConfig:
    dice = random.Random(seed)
    num_heads = dice.choice([1, 2, 3, 5, 7])
    patch_size = dice.choice([2, 3])
    return VisionConfig(
        width=num_heads * dice.choice([3, 4, 6]), num_layers=dice.choice([1, 2, 3]),
        num_heads=num_heads, mlp_width=dice.choice([7, 16]), patch_size=patch_size,
        norm="rms_norm" if seed % 2 else "layer_norm", qk_norm=seed % 4 in (1, 2),
        qkv_bias=dice.random() < 0.5, image_size=patch_size * dice.choice([2, 3, 4]),
        norm_eps=dice.choice([1e-6, 1e-5]), drop_path_prob=dice.choice([0.0, 0.4]),
    )  # fmt: skip


def randomised(module: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    for name, parameter in module.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        is_gain = "norm" in name or "scale" in name
        nn.init.normal_(parameter, mean=1.0 if is_gain else 0.0, std=0.8 / fan_in**0.5)
    return module.double().eval().requires_grad_(False)


def weights_of(module: nn.Module) -> naive.Weights:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def naive_hidden(encoder: VisionEncoder, pixels: Tensor, layer: int) -> Tensor:
    weights = weights_of(encoder)
    tiles = [naive.vision_hidden(weights, encoder.config, t.numpy(), layer) for t in pixels]
    return torch.stack([torch.from_numpy(tile) for tile in tiles])


@pytest.mark.parametrize("seed", range(20))
def test_every_layer_agrees_at_the_stored_size(seed: int) -> None:
    config = random_config(seed)
    encoder = randomised(VisionEncoder(config), seed)
    assert isinstance(encoder, VisionEncoder)
    pixels = torch.randn(2, 3, config.image_size, config.image_size, dtype=torch.float64)
    for layer in range(-config.num_layers - 1, config.num_layers + 1):
        expected = naive_hidden(encoder, pixels, layer)
        assert (encoder(pixels, layer) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("seed", range(8))
def test_positions_are_interpolated_for_other_sizes(seed: int) -> None:
    config = random_config(seed)
    encoder = randomised(VisionEncoder(config), seed)
    assert isinstance(encoder, VisionEncoder)
    for rows, columns in ((1, 1), (7, 7), (3, 5), (config.grid_size, config.grid_size + 1)):
        size = (rows * config.patch_size, columns * config.patch_size)
        pixels = torch.randn(1, 3, *size, dtype=torch.float64)
        expected = naive_hidden(encoder, pixels, -1)
        assert (encoder(pixels) - expected).abs().max() < INTERPOLATED


def test_later_blocks_do_not_run() -> None:
    config = random_config(7)
    encoder = randomised(VisionEncoder(config), 7)
    encoder.blocks[-1].norm1.weight.data[:] = torch.nan
    pixels = torch.randn(1, 3, config.image_size, config.image_size, dtype=torch.float64)
    assert torch.isfinite(encoder(pixels, -2)).all()
    assert not torch.isfinite(encoder(pixels, -1)).any()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("side", [2, 4, 6])
def test_the_shuffle_and_the_projector_agree(version: str, side: int) -> None:
    projector = randomised(Projector(4 * 5, 9), side)
    patches = torch.randn(3, side * side, 5, dtype=torch.float64)
    shuffled = pixel_shuffle(patches.unflatten(1, (side, side)), version=version)
    for tile, found in zip(patches, projector(shuffled), strict=True):
        expected = naive.project(weights_of(projector), tile.numpy(), side, version)
        assert (found - torch.from_numpy(expected)).abs().max() < TOLERANCE


def test_the_naive_resize_agrees_with_torch() -> None:
    """So that an error of the naive side cannot hide one of ours."""
    for old, new in ((4, 4), (4, 7), (7, 3), (2, 9)):
        grid = torch.randn(1, 1, old, old, dtype=torch.float64)
        expected = nn.functional.interpolate(grid, size=(new, new), mode="bicubic")[0, 0]
        matrix = torch.from_numpy(naive.resize_matrix(old, new))
        assert (matrix @ grid[0, 0] @ matrix.T - expected).abs().max() < TOLERANCE
