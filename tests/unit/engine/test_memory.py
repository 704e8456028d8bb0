"""What is kept between answers: equal results, less work, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tessera.engine.generate import GenerationOptions, generate
from tessera.engine.memory import Memory, Prompt, PromptMemory, TileMemory, hash_tile
from tessera.models.cache import KVCache
from tessera.models.chat import ChatModel
from tests.unit.engine.conftest import FAMILIES, VISUAL_ID

Build = Callable[..., ChatModel]
TOKENS = 4  # visual tokens a tile of the tiny model


def tiles(*seeds: int) -> Tensor:
    return torch.stack(
        [torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def prompt(*parts: int | str) -> list[int]:
    """Ids, with "T" for the placeholders of a tile."""
    ids: list[int] = []
    for part in parts:
        ids += [VISUAL_ID] * TOKENS if part == "T" else [int(part)]
    return ids


def answer(
    model: ChatModel, ids: list[int], pixels: Tensor | None, memory: Memory | None
) -> list[tuple[int, float]]:
    steps = generate(
        model, [ids], pixels, visual_token_id=VISUAL_ID, stop_ids=(),
        options=GenerationOptions(max_new_tokens=5), memory=memory,
    )  # fmt: skip
    return [(step[0].id, step[0].logprob) for step in steps if step[0]]


def assert_same(found: list[tuple[int, float]], wanted: list[tuple[int, float]]) -> None:
    assert [id_ for id_, _ in found] == [id_ for id_, _ in wanted]
    assert [p for _, p in found] == pytest.approx([p for _, p in wanted], abs=1e-9)


class Work:
    """Counts what a model reads and encodes."""

    def __init__(self, model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.positions: list[int] = []
        self.tiles: list[int] = []
        read, encode = model.language.forward, model.encode_tiles

        def forward(embeds: Tensor, **options: object) -> Tensor:
            self.positions.append(embeds.shape[1])
            return read(embeds, **options)  # type: ignore[arg-type]

        def encode_tiles(pixels: Tensor) -> Tensor:
            self.tiles.append(len(pixels))
            return encode(pixels)

        monkeypatch.setattr(model.language, "forward", forward)
        monkeypatch.setattr(model, "encode_tiles", encode_tiles)

    def clear(self) -> None:
        self.positions, self.tiles = [], []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_remembered_beginning_changes_no_answer_and_is_not_read_again(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    model, memory = tiny_model(family), Memory()
    first, pixels = prompt(1, 5, "T", "T", 6, 7), tiles(1, 2)
    said = [id_ for id_, _ in answer(model, first, pixels, memory)]
    questions: Sequence[tuple[list[int], Tensor]] = [
        ([*first, *said, 8, 9], pixels),  # the conversation goes on
        ([*first[:-1], 8, 9, 10], pixels),  # another question about the same picture
        (prompt(1, 5, "T", "T", 6, 7), tiles(1, 3)),  # another second picture, the same ids
        (prompt(1, 5, "T", "T", 6, 7), tiles(4, 2)),
        (prompt(1, 5, "T", 6), tiles(1)),
        (prompt(1, 5), None),  # type: ignore[list-item]
        (prompt(1, 5), None),  # type: ignore[list-item]
        (prompt(2, 5, 6), None),  # type: ignore[list-item]
    ]
    for ids, shown in questions:
        assert_same(answer(model, ids, shown, memory), answer(model, ids, shown, None))
    work = Work(model, monkeypatch)
    memory = Memory()
    answer(model, first, pixels, memory)
    work.clear()
    answer(model, [*first[:-1], 8, 9, 10], pixels, memory)
    assert work.positions == [3, 1, 1, 1, 1]
    assert work.tiles == []


def test_another_picture_behind_a_known_one_is_read_from_its_first_token(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, memory = tiny_model(), Memory()
    answer(model, prompt(1, "T", "T", 6), tiles(1, 2), memory)
    work = Work(model, monkeypatch)
    answer(model, prompt(1, "T", "T", 6), tiles(1, 3), memory)
    assert work.positions[0] == TOKENS + 1
    assert work.tiles == [1]


def test_a_repeated_prompt_reads_its_last_token_only(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, memory = tiny_model(), Memory()
    once = answer(model, prompt(1, "T", 6), tiles(1), memory)
    work = Work(model, monkeypatch)
    assert_same(answer(model, prompt(1, "T", 6), tiles(1), memory), once)
    assert work.positions[0] == 1


@pytest.mark.parametrize(("family", "max_positions"), [("internlm2", 64), ("phi3", 256)])
def test_nothing_is_reused_where_keys_depend_on_the_length(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch, family: str, max_positions: int
) -> None:
    model, memory = (
        tiny_model(family, max_positions=max_positions),
        Memory(),
    )  # keys change their turn behind position 64
    near = prompt(*range(4, 59), 4, 5, 6, 7)
    answer(model, near, None, memory)
    far = [*near, *range(4, 14)]
    assert_same(answer(model, far, None, memory), answer(model, far, None, None))
    work = Work(model, monkeypatch)
    answer(model, far, None, memory)
    assert work.positions[0] == len(far)


def test_equal_tiles_of_one_batch_are_encoded_once(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, memory = tiny_model(), Memory()
    rows, pixels = [prompt(1, "T", "T"), prompt(2, "T", 5)], tiles(1, 1, 2)
    options = GenerationOptions(max_new_tokens=3)
    plain = list(
        generate(model, rows, pixels, visual_token_id=VISUAL_ID, stop_ids=(), options=options)
    )
    work = Work(model, monkeypatch)
    steps = list(
        generate(
            model, rows, pixels, visual_token_id=VISUAL_ID, stop_ids=(), options=options,
            memory=memory,
        )
    )  # fmt: skip
    assert work.tiles == [2]
    assert [[token.id for token in step if token] for step in steps] == [
        [token.id for token in step if token] for step in plain
    ]


def test_an_answer_that_is_stopped_leaves_a_memory_that_is_right(tiny_model: Build) -> None:
    model, memory = tiny_model(), Memory()
    ids, pixels = prompt(1, "T", 6), tiles(1)
    steps = generate(
        model, [ids], pixels, visual_token_id=VISUAL_ID, stop_ids=(), memory=memory,
        options=GenerationOptions(max_new_tokens=20),
    )  # fmt: skip
    said = [next(steps)[0].id, next(steps)[0].id]  # type: ignore[union-attr]
    steps.close()
    steps.close()
    again = [*ids, *said, 9]
    assert_same(answer(model, again, pixels, memory), answer(model, again, pixels, None))


def test_the_longest_common_beginning_is_found_in_whole_tiles() -> None:
    def made(ids: list[int], *names: bytes) -> Prompt:
        return Prompt(torch.tensor(ids), names, VISUAL_ID, TOKENS)

    both = made(prompt(1, "T", 5, "T", 6), b"a", b"b")
    assert both.common_length(both) == 11
    assert both.common_length(made(prompt(1, "T", 5, "T", 7), b"a", b"b")) == 10
    assert both.common_length(made(prompt(1, "T", 5, "T", 6), b"a", b"c")) == 6
    assert both.common_length(made(prompt(1, "T", 5, "T", 6), b"c", b"b")) == 1
    assert both.common_length(made(prompt(1, "T", "T"), b"a", b"b")) == 5
    assert both.common_length(made(prompt(2, "T"), b"a")) == 0
    assert both.common_length(made(prompt(1, 5))) == 1
    assert [both.tiles_before(length) for length in (0, 1, 5, 6, 11)] == [0, 0, 1, 1, 2]


def test_a_tile_memory_forgets_what_was_used_longest_ago() -> None:
    calls: list[int] = []

    def encode(pixels: Tensor) -> Tensor:
        calls.append(len(pixels))
        return pixels.flatten(1)[:, :8].reshape(-1, 2, 4)

    memory = TileMemory(max_bytes=2 * 8 * 4)

    def ask(*seeds: int) -> int:
        calls.clear()
        shown = tiles(*seeds)
        found = memory.encode(shown, tuple(map(hash_tile, shown)), encode)
        assert torch.equal(found, encode(shown))
        return calls[0] if len(calls) > 1 else 0

    assert [ask(1, 2), ask(1), ask(3), ask(1), ask(2)] == [2, 0, 1, 0, 1]
    assert memory.num_bytes <= memory.max_bytes
    assert TileMemory(0).encode(tiles(1), (b"x",), encode).shape == (1, 2, 4)


def read(model: ChatModel, *ids: int, capacity: int = 8) -> tuple[Prompt, KVCache]:
    """A prompt and keys and values as if it had been read."""
    cache = KVCache(model.config.language, 1, capacity=capacity, dtype=torch.float32)
    cache.reserve(torch.ones(1, len(ids), dtype=torch.bool))
    cache.advance(len(ids))
    return Prompt(torch.tensor(ids), (), VISUAL_ID, TOKENS), cache


def asked(*ids: int) -> Prompt:
    return Prompt(torch.tensor(ids), (), VISUAL_ID, TOKENS)


def test_a_prompt_memory_keeps_within_its_budget(tiny_model: Build) -> None:
    model = tiny_model()
    size = read(model, 5)[1].num_bytes
    memory = PromptMemory(max_bytes=2 * size)
    for first in (5, 6, 7):
        memory.put(*read(model, first, 9, 9, 9, 9, 9, 9))
    memory.put(*read(model, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, capacity=40))  # compacted, still fits
    found = [memory.take(asked(first, *[9] * 10)) for first in (5, 6, 7, 8)]
    assert [cache is not None for cache in found] == [False, False, False, True]
    memory.put(*read(model, 5, 9, 9, 9, 9, 9, 9))
    memory.put(*read(model, *range(4, 40), capacity=40))  # larger than all of the budget
    assert memory.take(asked(5, *[9] * 10)) is not None
    assert memory.take(asked(*range(4, 44))) is None


def test_what_continues_is_handed_over_and_what_branches_off_is_copied(tiny_model: Build) -> None:
    memory = PromptMemory()
    prompt, cache = read(tiny_model(), 4, 5, 6, 7, 8, 9, 10)
    memory.put(prompt, cache)
    branch = memory.take(asked(4, 5, 6, 7, 20, 21))
    assert branch is not None
    assert branch is not cache
    assert (branch.length, branch.capacity) == (4, 4)
    assert memory.take(asked(4, 5, 20, 21)) is None  # hardly anything in common
    assert memory.take(asked(4, 5, 6, 7, 8, 9, 10, 11)) is cache
    assert memory.take(asked(4, 5, 6, 7, 8, 9, 10, 11)) is None  # it is with whoever took it


def test_two_conversations_in_turn_are_both_remembered(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, memory = tiny_model(max_positions=256), Memory()
    talks = [prompt(1, 2, 4, 5, "T", *range(first, first + 12)) for first in (10, 30)]
    shown = [tiles(1), tiles(2)]
    for turn in range(3):
        work = Work(model, monkeypatch)
        for number, (talk, pixels) in enumerate(zip(talks, shown, strict=True)):
            work.clear()
            found = answer(model, talk, pixels, memory)
            if turn:
                assert work.positions[0] <= 4, (turn, number)
                assert work.tiles == []
            assert_same(found, answer(model, talk, pixels, None))
            talk += [*(id_ for id_, _ in found), 6, 7]


@pytest.mark.parametrize("turn", [0, 1])
def test_an_interrupt_while_reading_keeps_what_was_there(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    model, memory = tiny_model(), Memory()
    first = prompt(1, "T", 5, 6)
    if turn:
        answer(model, first, tiles(1), memory)
    with monkeypatch.context() as patch:

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(model.language.blocks[1], "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer(model, [*first, 7, 8], tiles(1), memory)
    for kept, cache in memory.prompts._kept:
        assert len(kept.ids_L) == cache.length > 0
    assert len(memory.prompts._kept) == 2 * turn  # the first, and what both have in common
    again = [*first, 7, 8]
    assert_same(answer(model, again, tiles(1), memory), answer(model, again, tiles(1), None))


def test_a_prompt_that_ends_with_a_picture_can_be_repeated(tiny_model: Build) -> None:
    model, memory = tiny_model(), Memory()
    ids = prompt(1, 5, 6, 7, "T")
    once = answer(model, ids, tiles(1), memory)
    assert_same(answer(model, ids, tiles(1), memory), once)


def test_a_cache_grows_by_a_quarter_and_keeps_what_it_holds(tiny_model: Build) -> None:
    model = tiny_model()
    cache = KVCache(model.config.language, 1, capacity=1000, dtype=torch.float32)
    cache.keys[0].normal_()
    before = cache.keys[0].clone()
    cache.reserve(torch.ones(1, 1000, dtype=torch.bool))
    cache.advance(1000)
    cache.reserve(torch.ones(1, 1, dtype=torch.bool))
    assert cache.capacity == 1250
    assert torch.equal(cache.keys[0][:, :1000], before)
    assert cache.valid_BL.sum() == 1001


def test_tiles_are_told_apart_by_type_shape_and_every_value() -> None:
    tile = tiles(1)[0]
    other = tile.clone()
    other[2, 7, 7] += 1e-6
    names = [hash_tile(t) for t in (tile, other, tile.half(), tile.reshape(3, 4, 16))]
    assert len(set(names)) == 4
    assert hash_tile(tile.transpose(1, 2).contiguous().transpose(1, 2)) == names[0]
