import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from tessera.errors import ConfigError, ImageError
from tessera.processing.tiling import (
    IMAGENET_MEAN,
    candidate_grids,
    choose_grid,
    count_tiles,
    cut,
    normalise,
    pad_to_square,
)

SIDES = st.integers(1, 65_535)
BUDGETS = st.sampled_from(
    [(1, 1), (1, 2), (1, 4), (1, 6), (1, 9), (1, 12), (1, 18), (1, 24), (1, 40), (2, 6), (3, 12)]
    + [(7, 7)]
)


def grid(width: int, height: int, max_tiles: int, min_tiles: int = 1) -> tuple[int, int]:
    return choose_grid(width, height, min_tiles=min_tiles, max_tiles=max_tiles, tile_size=448)


def numbered_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_every_golden_grid_is_chosen(golden: Path) -> None:
    recorded = json.loads((golden / "tiling.json").read_text())
    assert len(recorded["rows"]) == 413 * 5
    wrong = [
        row
        for row in recorded["rows"]
        if choose_grid(
            row[0],
            row[1],
            min_tiles=row[2],
            max_tiles=row[3],
            tile_size=recorded["tile_size"],
        )
        != tuple(row[4:])
    ]
    assert wrong == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_golden_tiles_and_normalised_pixels_are_equal_to_the_bit(golden: Path, index: int) -> None:
    recorded = load_file(golden / "tiling_pixels.safetensors")
    image = Image.open(golden / "images" / f"{index}.png")
    tiles = cut(image, tile_size=112, min_tiles=1, max_tiles=12, use_thumbnail=True)
    assert tiles.dtype == np.uint8
    assert np.array_equal(tiles, recorded[str(index)])
    first = normalise(tiles[:1])[0].numpy()
    assert np.array_equal(first, recorded[f"{index}.normalised_first"])


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        ((448, 448), [(1, 1), (1, 1), (1, 1), (1, 1)]),
        ((400, 400), [(1, 1), (1, 1), (1, 1), (1, 1)]),
        ((640, 640), [(2, 2), (2, 2), (2, 2), (2, 2)]),
        ((800, 600), [(3, 2), (4, 3), (4, 3), (4, 3)]),
        ((1920, 1080), [(2, 1), (4, 2), (5, 3), (7, 4)]),
        ((1080, 1920), [(1, 2), (2, 4), (3, 5), (4, 7)]),
        ((2000, 2000), [(2, 2), (3, 3), (4, 4), (6, 6)]),
        ((300, 100), [(3, 1), (3, 1), (3, 1), (3, 1)]),
        ((100, 1000), [(1, 6), (1, 10), (1, 10), (1, 10)]),
    ],
)
def test_the_published_check_vectors_hold(
    size: tuple[int, int], grids: list[tuple[int, int]]
) -> None:
    assert [grid(*size, budget) for budget in (6, 12, 24, 40)] == grids


@pytest.mark.parametrize(("max_tiles", "count"), [(6, 14), (12, 35), (24, 84), (40, 158)])
def test_the_number_of_candidate_grids_is_the_published_one(max_tiles: int, count: int) -> None:
    assert len(candidate_grids(1, max_tiles)) == count


@settings(max_examples=200, deadline=None)
@given(width=SIDES, height=SIDES, budget=BUDGETS)
@example(width=1, height=65_535, budget=(1, 40))
@example(width=65_535, height=1, budget=(1, 40))
@example(width=1, height=1, budget=(3, 12))
def test_a_grid_keeps_the_limit_and_no_other_is_nearer(
    width: int, height: int, budget: tuple[int, int]
) -> None:
    columns, rows = grid(width, height, budget[1], budget[0])
    assert budget[0] <= columns * rows <= budget[1]
    distance = abs(width / height - columns / rows)
    for other_columns, other_rows in candidate_grids(*budget):
        assert distance <= abs(width / height - other_columns / other_rows)


@settings(max_examples=100, deadline=None)
@given(width=SIDES, height=SIDES, max_tiles=st.integers(1, 40))
def test_more_tiles_of_the_same_ratio_are_taken_only_for_more_pixels(
    width: int, height: int, max_tiles: int
) -> None:
    columns, rows = grid(width, height, max_tiles)
    smaller = [
        other
        for other in candidate_grids(1, max_tiles)
        if other[0] * rows == other[1] * columns and other[0] < columns
    ]
    if smaller:
        assert width * height > 0.5 * 448 * 448 * columns * rows


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    max_tiles=st.integers(1, 12),
    use_thumbnail=st.booleans(),
)
def test_tiles_cover_the_resized_picture_row_by_row(
    width: int, height: int, max_tiles: int, use_thumbnail: bool
) -> None:
    image = numbered_picture(width, height)
    tiles = cut(image, tile_size=28, min_tiles=1, max_tiles=max_tiles, use_thumbnail=use_thumbnail)
    columns, rows = choose_grid(width, height, min_tiles=1, max_tiles=max_tiles, tile_size=28)
    assert len(tiles) == count_tiles((columns, rows), use_thumbnail=use_thumbnail)
    whole = np.vstack([np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)])
    expected = image.resize((columns * 28, rows * 28), Image.Resampling.BICUBIC)
    assert np.array_equal(whole, np.asarray(expected))
    if len(tiles) > columns * rows:
        thumbnail = image.resize((28, 28), Image.Resampling.BICUBIC)
        assert np.array_equal(tiles[-1], np.asarray(thumbnail))


def test_a_single_tile_gets_no_thumbnail() -> None:
    tiles = cut(
        numbered_picture(28, 28), tile_size=28, min_tiles=1, max_tiles=12, use_thumbnail=True
    )
    assert tiles.shape == (1, 28, 28, 3)


@pytest.mark.parametrize("size", [(1, 65_535), (65_535, 1), (1, 1), (2, 65_535)])
def test_the_longest_pictures_are_cut(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    tiles = cut(image, tile_size=448, min_tiles=1, max_tiles=12, use_thumbnail=True)
    assert len(tiles) == (1 if size == (1, 1) else 13)
    assert (tiles == (10, 20, 30)).all()


def test_an_impossible_tile_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="min 5 and max 4"):
        grid(10, 10, 4, 5)
    with pytest.raises(ConfigError, match="min 0"):
        grid(10, 10, 4, 0)


def test_a_picture_without_pixels_or_of_another_mode_is_refused() -> None:
    with pytest.raises(ImageError, match="0 x 5"):
        grid(0, 5, 12)
    with pytest.raises(ImageError, match="mode L"):
        cut(Image.new("L", (9, 9)), tile_size=28, min_tiles=1, max_tiles=1, use_thumbnail=False)


def test_padding_centres_the_picture_on_the_mean_colour() -> None:
    padded = pad_to_square(Image.new("RGB", (40, 11), (255, 0, 0)))
    colour = tuple(int(255 * mean) for mean in IMAGENET_MEAN)
    assert padded.size == (40, 40)
    assert padded.getpixel((5, 13)) == colour
    assert padded.getpixel((5, 14)) == (255, 0, 0)
    assert padded.getpixel((5, 24)) == (255, 0, 0)
    assert padded.getpixel((5, 25)) == colour
    square = Image.new("RGB", (7, 7))
    assert pad_to_square(square) is square


def test_normalising_does_not_change_its_input() -> None:
    tiles = np.full((2, 4, 4, 3), 255, dtype=np.uint8)
    pixels = normalise(tiles)
    assert pixels.shape == (2, 3, 4, 4)
    assert pixels.is_contiguous()
    assert (tiles == 255).all()
    assert abs(float(pixels[0, 0, 0, 0]) - (1 - 0.485) / 0.229) < 1e-6


TWELVE_BUDGETS = (1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 40)


def sweep(count: int) -> None:
    """Random sizes, a third of them one pixel thin, against each budget in turn."""
    random = np.random.default_rng(0)
    sides = random.integers(1, 65_536, (count, 2))
    sides[::6, 0], sides[3::6, 1] = 1, 1
    for index, (width, height) in enumerate(sides.tolist()):
        max_tiles = TWELVE_BUDGETS[index % 12]
        columns, rows = grid(width, height, max_tiles)
        assert 1 <= columns * rows <= max_tiles, (width, height)
        assert count_tiles((columns, rows), use_thumbnail=True) <= max_tiles + 1


def test_five_thousand_sizes_keep_to_twelve_budgets() -> None:
    sweep(5_000)


@pytest.mark.stress
def test_two_hundred_thousand_sizes_keep_to_twelve_budgets() -> None:
    sweep(200_000)
