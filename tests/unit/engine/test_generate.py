from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable

import pytest
import torch

from tessera.engine import generate as engine
from tessera.engine.generate import (
    GeneratedToken,
    GenerationOptions,
    context_limit,
    encode_tiles,
    generate,
    pad_left,
)
from tessera.engine.sampling import NumericsError, SamplingOptions
from tessera.errors import ConfigError, PromptError
from tessera.models.chat import ChatModel

VISUAL, VOCAB, PER_TILE = 3, 60, 4
Build = Callable[..., ChatModel]
Prompt = tuple[list[int], torch.Tensor | None]


def make_prompts(seed: int, count: int = 5) -> list[Prompt]:
    """Prompts of different lengths, some with one or two tiles."""
    dice = random.Random(seed)
    torch.manual_seed(seed)
    prompts: list[Prompt] = []
    for row in range(count):
        words = [dice.randrange(4, VOCAB) for _ in range(dice.randrange(1, 14))]
        tiles = row % 3
        place = dice.randrange(len(words) + 1)
        ids = words[:place] + [VISUAL] * (PER_TILE * tiles) + words[place:]
        prompts.append((ids, torch.randn(tiles, 3, 8, 8) if tiles else None))
    return prompts


def run(model: ChatModel, prompts: list[Prompt], **kwargs: object) -> list[list[GeneratedToken]]:
    pixels = [tiles for _, tiles in prompts if tiles is not None]
    options = kwargs.pop("options", GenerationOptions(max_new_tokens=12))
    steps = generate(
        model, [ids for ids, _ in prompts], torch.cat(pixels) if pixels else None,
        visual_token_id=VISUAL, stop_ids=kwargs.pop("stop_ids", ()), options=options,
    )  # fmt: skip
    rows: list[list[GeneratedToken]] = [[] for _ in prompts]
    for step in steps:
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
    return rows


def ids_of(rows: list[list[GeneratedToken]]) -> list[list[int]]:
    return [[token.id for token in row] for row in rows]


@pytest.mark.parametrize("family", ["internlm2", "phi3", "llama", "qwen2"])
def test_a_ragged_batch_gets_the_tokens_of_single_prompts(family: str, tiny_model: Build) -> None:
    model, prompts = tiny_model(family), make_prompts(1)
    options = GenerationOptions(max_new_tokens=16)
    stops = range(20, 25)  # so that rows leave the batch at different steps
    together = run(model, prompts, options=options, stop_ids=stops)
    for prompt, row in zip(prompts, together, strict=True):
        (alone,) = run(model, [prompt], options=options, stop_ids=stops)
        assert [token.id for token in alone] == [token.id for token in row]
        for a, b in zip(alone, row, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-5)


@pytest.mark.parametrize("family", ["internlm2", "phi3", "llama", "qwen2"])
def test_greedy_tokens_are_those_of_full_forward_passes(family: str, tiny_model: Build) -> None:
    model, (ids, tiles) = tiny_model(family), make_prompts(2)[2]
    (row,) = run(model, [(ids, tiles)])
    sequence = list(ids)
    with torch.inference_mode():
        visual = model.encode_tiles(tiles.double())
        for token in row:
            embeds = model.embed(torch.tensor([sequence]), visual, visual_token_id=VISUAL)
            logprobs = model(embeds)[0, -1].log_softmax(-1)
            assert token.id == int(logprobs.argmax())
            assert token.logprob == pytest.approx(float(logprobs.max()), abs=1e-5)
            sequence.append(token.id)
            if token.id == VISUAL:  # written by the model, not a picture: stop comparing
                break


def test_rows_that_cross_the_long_rope_switch_are_read_again(tiny_model: Build) -> None:
    model = tiny_model("phi3", max_positions=96)  # short factors up to 64 positions
    torch.manual_seed(8)
    prompts: list[Prompt] = [
        ([5, *[VISUAL] * (2 * PER_TILE), *range(10, 58)], torch.randn(2, 3, 8, 8)),
        (list(range(4, 12)), None),
        ([*range(4, 58), *[VISUAL] * PER_TILE, 7], torch.randn(1, 3, 8, 8)),
        ([9] * 70, None),
    ]
    rows = run(model, prompts, options=GenerationOptions(max_new_tokens=14), stop_ids=[30, 31])
    for (ids, tiles), row in zip(prompts, rows, strict=True):
        with torch.inference_mode():
            visual = None if tiles is None else model.encode_tiles(tiles.double())
            prompt = model.embed(torch.tensor([ids]), visual, visual_token_id=VISUAL)
            for count, token in enumerate(row):
                said = torch.tensor([[t.id for t in row[:count]]], dtype=torch.long)
                embeds = torch.cat([prompt, model.language.embedding(said)], 1)
                logprobs = model(embeds)[0, -1].log_softmax(-1)
                assert token.id == int(logprobs.argmax())
                assert token.logprob == pytest.approx(float(logprobs.max()), abs=1e-5)


def test_sampled_rows_do_not_depend_on_their_batch(tiny_model: Build) -> None:
    model, prompts = tiny_model(), make_prompts(3)
    sampling = SamplingOptions(
        temperature=1.0, top_k=30, top_p=0.98, repetition_penalty=1.2, seed=5
    )
    options = GenerationOptions(max_new_tokens=12, sampling=sampling)
    together = ids_of(run(model, prompts, options=options))
    assert together == [ids_of(run(model, [prompt], options=options))[0] for prompt in prompts]


def test_a_stop_token_is_the_last_of_its_row_and_counts_as_a_step(tiny_model: Build) -> None:
    model, prompts = tiny_model(), make_prompts(4, count=1)
    free = ids_of(run(model, prompts))[0]
    stop = free[5]
    stopped = ids_of(run(model, prompts, stop_ids=[stop, 10**9]))[0]
    assert stopped == free[: free.index(stop) + 1]


def test_min_new_tokens_forbids_stop_tokens_until_then(tiny_model: Build) -> None:
    model, prompts = tiny_model(), make_prompts(4, count=1)
    stop = ids_of(run(model, prompts))[0][0]
    options = GenerationOptions(max_new_tokens=9, min_new_tokens=4)
    row = ids_of(run(model, prompts, stop_ids=[stop], options=options))[0]
    assert len(row) >= 4
    assert stop not in row[:4]


def test_top_log_probabilities_start_with_the_greedy_token(tiny_model: Build) -> None:
    options = GenerationOptions(max_new_tokens=3, num_logprobs=4)
    for token in run(tiny_model(), make_prompts(5, count=1), options=options)[0]:
        assert len(token.top) == 4
        assert token.top[0] == (token.id, token.logprob)
        assert list(token.top) == sorted(token.top, key=lambda pair: -pair[1])


def test_log_probabilities_ignore_temperature_and_penalty(tiny_model: Build) -> None:
    model, prompts = tiny_model(), make_prompts(5, count=1)
    plain = run(model, prompts, options=GenerationOptions(max_new_tokens=1, num_logprobs=20))
    hot = SamplingOptions(temperature=3.0, seed=1)
    warm = run(
        model, prompts, options=GenerationOptions(max_new_tokens=1, sampling=hot, num_logprobs=20)
    )
    assert warm[0][0].top == plain[0][0].top


def test_tiles_are_encoded_in_chunks_with_the_same_result(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pixels = tiny_model(), torch.randn(7, 3, 8, 8, dtype=torch.float64)
    whole = encode_tiles(model, pixels)
    seen: list[int] = []
    inner = model.encode_tiles

    def spy(chunk: torch.Tensor) -> torch.Tensor:
        seen.append(len(chunk))
        return inner(chunk)

    monkeypatch.setattr(engine, "TILES_AT_ONCE", 3)
    monkeypatch.setattr(model, "encode_tiles", spy)
    assert torch.allclose(encode_tiles(model, pixels), whole, atol=1e-12)
    assert seen == [3, 3, 1]


def test_only_the_last_position_is_scored_in_prefill(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shapes = tiny_model(), []
    inner = model.language.logits

    def spy(hidden: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(hidden.shape[:2]))
        return inner(hidden)

    monkeypatch.setattr(model.language, "logits", spy)
    run(model, make_prompts(6), options=GenerationOptions(max_new_tokens=2))
    assert shapes == [(5, 1), (5, 1)]


def test_finished_rows_leave_the_cache(tiny_model: Build) -> None:
    model, prompts = tiny_model(), [([5, 6], None), ([7, 8, 9], None)]
    steps = generate(
        model, [ids for ids, _ in prompts], visual_token_id=VISUAL, stop_ids=(),
        options=GenerationOptions(max_new_tokens=6),
    )  # fmt: skip
    assert all(token is not None for token in next(steps))
    steps.drop(0)
    steps.drop(0)
    first, second = next(steps)
    assert first is None
    assert second is not None
    assert steps._cache is not None
    assert steps._cache.keys[0].shape[0] == 1
    alone = ids_of(run(model, [prompts[1]], options=GenerationOptions(max_new_tokens=6)))[0]
    assert [second.id] + [step[1].id for step in steps if step[1]] == alone[1:]


def test_stopping_to_iterate_leaves_nothing_behind(tiny_model: Build) -> None:
    steps = generate(tiny_model(), [[5, 6]], visual_token_id=VISUAL, stop_ids=())
    next(steps)
    assert not torch.is_inference_mode_enabled()
    cache = weakref.ref(steps._cache)
    steps.close()
    steps.close()
    gc.collect()
    assert cache() is None
    assert list(steps) == []


def test_an_interrupt_inside_a_step_frees_the_batch(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    steps = generate(model, [[5, 6]], visual_token_id=VISUAL, stop_ids=())
    next(steps)

    def interrupt(hidden: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.language, "logits", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert list(steps) == []
    assert steps._cache is None


def test_weights_that_give_nan_raise(tiny_model: Build) -> None:
    model = tiny_model(seed=99)
    model.language.norm.weight.data[:] = torch.nan
    with pytest.raises(NumericsError):
        run(model, make_prompts(7, count=1))


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(tiny_model: Build) -> None:
    model = tiny_model("llama", max_positions=16)
    with pytest.raises(PromptError, match=r"2 of 2 is 16 tokens long .* at most 16"):
        generate(model, [[5] * 3, [5] * 16], visual_token_id=VISUAL, stop_ids=())


def test_an_answer_is_clipped_where_the_context_ends(
    tiny_model: Build, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("llama", max_positions=16)
    with caplog.at_level("INFO", logger="tessera"):
        rows = run(model, [([5] * 13, None), ([5] * 2, None)])
    assert [len(row) for row in rows] == [3, 12]
    assert "room for 3 of max_new_tokens 12" in caplog.text


def test_dynamic_ntk_reads_factor_times_as_far(tiny_model: Build) -> None:
    model = tiny_model("internlm2", max_positions=16)
    assert context_limit(model.config.language) == 32
    rows = run(model, [([5] * 13, None)])
    assert len(rows[0]) == 12


@pytest.mark.parametrize("ids", [[], [5, VOCAB], [5, -1]])
def test_prompts_that_cannot_be_read_are_refused(ids: list[int], tiny_model: Build) -> None:
    with pytest.raises(PromptError, match="conversation 1 of 1"):
        generate(tiny_model(), [ids], visual_token_id=VISUAL, stop_ids=())


def test_placeholders_without_their_picture_are_refused(tiny_model: Build) -> None:
    with pytest.raises(PromptError, match="4 placeholders"):
        run(tiny_model(), [([5] + [VISUAL] * 4, None)])


def test_no_prompts_give_no_steps(tiny_model: Build) -> None:
    assert list(generate(tiny_model(), [], visual_token_id=VISUAL, stop_ids=())) == []


def test_padding_is_never_a_placeholder(tiny_model: Build) -> None:
    rows = list(
        generate(
            tiny_model(), [[5, 6, 7], [8]], visual_token_id=0, stop_ids=(),
            options=GenerationOptions(max_new_tokens=1),
        )
    )  # fmt: skip
    assert len(rows) == 1


def test_pad_left_marks_padding_with_segment_0() -> None:
    ids, segments = pad_left([[7], [8, 9, 10]], pad_id=2)
    assert ids.tolist() == [[2, 2, 7], [8, 9, 10]]
    assert segments.tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"min_new_tokens": -1},
        {"min_new_tokens": 3, "max_new_tokens": 2},
        {"num_logprobs": -1},
        {"num_logprobs": 21},
        {"num_logprobs": True},
    ],
    ids=str,
)
def test_wrong_generation_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        GenerationOptions(**wrong)  # type: ignore[arg-type]
