"""Shuffle, norms, drop path, masks and cache, against plain loops."""

import pytest
import torch

from tessera.errors import ConfigError, PromptError
from tessera.models.attention import causal_mask, segment_positions
from tessera.models.cache import KVCache
from tessera.models.chat import ChatModel
from tessera.models.layers import DropPath, RMSNorm
from tessera.models.lora import add_lora, lora_state
from tessera.models.projector import pixel_shuffle
from tests.unit.models.tiny import tiny_config


def test_pixel_shuffle_v2_reads_blocks_by_rows():
    grid = torch.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    shuffled = pixel_shuffle(grid)
    assert shuffled.shape == (2, 6, 12)
    for tile in range(2):
        for index in range(6):
            y, x = 2 * (index // 3), 2 * (index % 3)
            block = [grid[tile, y + dy, x + dx] for dy in (0, 1) for dx in (0, 1)]
            assert torch.equal(shuffled[tile, index], torch.cat(block))


def test_pixel_shuffle_v1_is_v2_with_the_grid_transposed():
    grid = torch.randn(1, 4, 6, 5)
    v2 = pixel_shuffle(grid, version="v2").reshape(1, 2, 3, 20)
    v1 = pixel_shuffle(grid, version="v1").reshape(1, 3, 2, 20)
    assert torch.equal(v1, v2.transpose(1, 2))


def test_pixel_shuffle_refuses_odd_grids():
    with pytest.raises(ConfigError, match="3 x 4 grid by 2"):
        pixel_shuffle(torch.zeros(1, 3, 4, 2))


def test_rms_norm_casts_before_the_weight():
    norm = RMSNorm(8, 1e-6).to(torch.bfloat16)
    x = torch.randn(3, 8).to(torch.bfloat16)
    wide = x.float()
    wide = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.equal(norm(x), norm.weight * wide.to(torch.bfloat16))


def test_drop_path_keeps_the_mean_and_is_off_in_evaluation():
    layer = DropPath(0.25)
    x = torch.ones(20_000, 1)
    torch.manual_seed(0)
    dropped = layer(x)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 4 / 3]))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(x), x)


def test_segments_restart_positions_and_separate_sequences():
    segments = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 2, 2, 0], [3, 3, 3, 3, 3]])
    positions, lengths = segment_positions(segments)
    assert positions.tolist() == [[0, 0, 0, 1, 2], [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]]
    assert lengths.tolist() == [[1, 1, 3, 3, 3], [2, 2, 2, 2, 1], [5, 5, 5, 5, 5]]
    mask = causal_mask(segments, length=5, window=None, device=torch.device("cpu"))
    for row in range(3):
        for q in range(5):
            for k in range(5):
                same = segments[row, q] == segments[row, k] != 0
                assert bool(mask[row, 0, q, k]) == (q == k or (k <= q and bool(same)))


def test_a_window_limits_how_far_back_a_position_sees():
    mask = causal_mask(None, length=4, window=2, device=torch.device("cpu"))
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert causal_mask(None, length=2, window=2, device=torch.device("cpu")) is None


def test_windowed_decoding_equals_the_whole_sequence():
    model = ChatModel(tiny_config(sliding_window=3)).eval()
    embeds = torch.randn(2, 9, model.config.language.width)
    cache = KVCache(model.config.language, 2, capacity=2, dtype=torch.float32)
    with torch.no_grad():
        whole = model(embeds)
        steps = [model(embeds[:, :4], cache=cache)]
        steps += [model(embeds[:, i : i + 1], cache=cache) for i in range(4, 9)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


def test_cache_rows_can_be_dropped_between_steps():
    model = ChatModel(tiny_config()).eval()
    embeds = torch.randn(3, 6, model.config.language.width)
    segments = torch.tensor([[1] * 5, [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    cache = KVCache(model.config.language, 3, capacity=8, dtype=torch.float32)
    with torch.no_grad():
        model(embeds[:, :5], segments_BL=segments, cache=cache)
        cache.select([2, 1])
        both = model(embeds[[2, 1], 5:], cache=cache)
        alone = model(embeds[1:2, 2:])[:, -1:]
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)


def test_a_count_mismatch_of_visual_tokens_names_both_counts():
    model = ChatModel(tiny_config())
    ids = torch.tensor([[5, 9, 9, 9, 5]])
    with pytest.raises(PromptError, match="3 placeholders .* give 4"):
        model.embed(ids, torch.zeros(1, 4, model.config.language.width), visual_token_id=9)
    with pytest.raises(PromptError, match="3 placeholders .* give 0"):
        model.embed(ids, None, visual_token_id=9)


def test_visual_tokens_stand_at_their_placeholders_in_order():
    model = ChatModel(tiny_config())
    visual = torch.arange(8.0)[:, None].expand(8, model.config.language.width).reshape(2, 4, -1)
    ids = torch.tensor([[1, 9, 9, 9, 2, 9], [9, 3, 9, 9, 9, 4]])
    embeds = model.embed(ids, visual, visual_token_id=9)
    assert embeds[ids == 9][:, 0].tolist() == list(range(8))
    assert torch.equal(embeds[ids != 9], model.language.embedding(ids[ids != 9]))


def test_lora_starts_equal_and_its_state_reproduces_the_trained_layer():
    model = ChatModel(tiny_config())
    x = torch.randn(2, model.config.language.width)
    before = model.language.blocks[0].attention.qkv(x)
    names = add_lora(model, r"language\.blocks\.\d+\.attention\.(qkv|out)", rank=2, alpha=4)
    assert len(names) == 2 * model.config.language.num_layers
    layer = model.language.blocks[0].attention.qkv
    assert torch.equal(layer(x), before)
    torch.nn.init.normal_(layer.lora_b)
    state = lora_state(model)
    a, b = (state[f"{names[0]}.lora_{letter}"] for letter in "ab")
    torch.testing.assert_close(layer(x), before + x @ a.T @ b.T)


def test_a_lora_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match="matches no linear"):
        add_lora(ChatModel(tiny_config()), r"language\.nothing", rank=2, alpha=4)
