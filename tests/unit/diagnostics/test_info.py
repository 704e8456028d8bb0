"""What `info` tells: counted from the model itself, never written down twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tessera.checkpoint.loader import read_chat_config
from tessera.config import ModelConfig
from tessera.diagnostics.info import (
    cost_line,
    describe,
    find_config,
    info_lines,
    picture_cost,
)
from tessera.errors import CheckpointError, ImageError, UserError
from tessera.presets import PRESETS, VISION_PRESETS
from tessera.processing.conversation import Conversation
from tessera.processing.processor import Processor
from tessera.processing.tokenizer import Tokenizer


@pytest.mark.parametrize("name", [*PRESETS, *VISION_PRESETS])
def test_every_preset_can_be_described(name: str) -> None:
    info = describe(name, find_config(name))
    assert info.parameters == sum(info.parts.values())
    assert info.memory["float32"].weights == 4 * info.parameters
    assert f"{info.parameters:,} parameters" in info_lines(info)[0]


def test_the_published_totals_are_counted() -> None:
    info = describe("x", PRESETS["InternVL-Chat-V1-5"]())
    assert info.parts["vision"] == 5_536_496_000
    assert round(info.parts["projector"] / 1e6, 2) == 116.43
    assert round(info.parts["language"] / 1e9, 2) == 19.86


def test_integer_weights_are_counted_as_they_will_lie_in_memory() -> None:
    memory = describe("x", PRESETS["InternVL-Chat-V1-5"]()).memory
    assert 25.4e9 < memory["int8"].weights < 25.7e9
    assert 19.5e9 < memory["int4"].weights < 20.0e9
    assert memory["int4"].weights < memory["int8"].weights < memory["int4+int8"].weights
    assert "int8" not in describe("x", VISION_PRESETS["InternViT-300M-448px"]()).memory


def test_the_cache_of_keys_and_values_is_counted() -> None:
    info = describe("x", PRESETS["Mini-InternVL-Chat-2B-V1-5"]())
    assert info.memory["bfloat16"].cache == 2 * 24 * 8 * 128 * 4096 * 2
    alone = describe("x", VISION_PRESETS["InternViT-300M-448px"]())
    assert alone.memory["bfloat16"].cache == 0


@pytest.mark.parametrize(
    ("size", "max_tiles", "grid", "tiles"),
    [((800, 600), 6, (3, 2), 7), ((800, 600), 12, (4, 3), 13), ((448, 448), 12, (1, 1), 1)],
)
def test_a_picture_costs_its_tiles_and_the_thumbnail(
    tmp_path: Path, size: tuple[int, int], max_tiles: int, grid: tuple[int, int], tiles: int
) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", size).save(path)
    config = PRESETS["Mini-InternVL-Chat-2B-V1-5"]()
    cost = picture_cost(config, path, max_tiles=max_tiles)
    assert ((cost.columns, cost.rows), cost.tiles) == (grid, tiles)
    assert cost.tokens == 256 * tiles + 2
    assert f"grid {grid[0]} x {grid[1]}" in cost_line(cost)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_tiles": 3},
        {"pad_to_square": True},
        {"dynamic_tiling": False, "min_tiles": 2},
        {"use_thumbnail": False},
    ],
)
@pytest.mark.parametrize("max_tiles", [None, 1, 2, 6])
def test_a_picture_costs_what_the_model_will_take(
    golden: Path, tmp_path: Path, changes: dict[str, Any], max_tiles: int | None
) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (900, 300)).save(path)
    directory = golden / "chat-300m-phi3"
    config = replace(read_chat_config(directory), **changes)
    processor = Processor(config, Tokenizer.from_directory(directory))
    inputs = processor([Conversation.user("?", [path])], max_tiles=max_tiles)
    assert picture_cost(config, path, max_tiles=max_tiles).tiles == inputs.num_tiles[0]


def test_a_model_without_tiling_takes_one_tile(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 300)).save(tmp_path / "wide.png")
    cost = picture_cost(PRESETS["InternVL-Chat-V1-2"](), tmp_path / "wide.png")
    assert (cost.tiles, cost.visual_tokens) == (1, 256)


def test_the_cost_is_what_the_processor_makes(golden: Path) -> None:
    from tessera.processing.conversation import Conversation
    from tessera.processing.processor import Processor
    from tessera.processing.tokenizer import Tokenizer

    directory = golden / "chat-300m-internlm2"
    config = find_config(str(directory))
    assert isinstance(config, ModelConfig)
    processor = Processor(config, Tokenizer.from_directory(directory))
    for path in sorted((golden / "images").iterdir()):
        cost = picture_cost(config, path)
        inputs = processor([Conversation.user("?", [path])])
        assert inputs.tile_counts == [[cost.tiles]]
        assert inputs.ids[0].count(processor.visual_token_id) == cost.visual_tokens


def test_names_are_found_whatever_their_case_and_owner() -> None:
    assert find_config("OpenGVLab/InternVL-Chat-V1-5") == PRESETS["InternVL-Chat-V1-5"]()
    with pytest.raises(UserError, match="neither a directory nor a preset"):
        find_config("gpt")


def test_what_cannot_be_read_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        find_config(str(tmp_path))
    with pytest.raises(ImageError):
        picture_cost(PRESETS["InternVL-Chat-V1-5"](), tmp_path / "none.png")
