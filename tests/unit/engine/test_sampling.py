from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tessera.engine.sampling import (
    NumericsError,
    SamplingOptions,
    log_probs,
    penalise_repetition,
    row_generators,
    sample_next_token,
)
from tessera.errors import ConfigError


def naive_distribution(logits: np.ndarray, options: SamplingOptions, seen: list[int]) -> np.ndarray:
    """The distribution of one row, step by step in float64."""
    scores = logits.astype(np.float64).copy()
    for token in set(seen):
        factor = options.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    if options.temperature == 0:
        out = np.zeros_like(scores)
        out[int(scores.argmax())] = 1.0
        return out
    scores = scores / options.temperature
    order = list(np.argsort(-scores, kind="stable"))
    if options.top_k is not None:
        for token in order[options.top_k :]:
            scores[token] = -np.inf
    probs = np.exp(scores - scores.max())
    probs /= probs.sum()
    if options.top_p is not None:
        total = 0.0
        for token in order:
            if total >= options.top_p:
                probs[token] = 0.0
            else:
                total += probs[token]
    if options.min_p is not None:
        probs[probs < options.min_p * probs.max()] = 0.0
    return probs / probs.sum()


COUNT = 4000


def draw(logits: torch.Tensor, options: SamplingOptions, seen: list[int]) -> np.ndarray:
    """Draw COUNT times from one row at once, all with one generator; return frequencies."""
    rows = logits[None].expand(COUNT, -1)
    generators = row_generators(12, 1) * COUNT
    ids = sample_next_token(rows, options, generators=generators, history=[seen] * COUNT)
    return np.bincount(ids.numpy(), minlength=len(logits)) / COUNT


CASES = [
    SamplingOptions(temperature=1.0),
    SamplingOptions(temperature=0.6),
    SamplingOptions(temperature=2.5, top_k=4),
    SamplingOptions(temperature=1.0, top_k=1),
    SamplingOptions(temperature=1.0, top_k=500),
    SamplingOptions(temperature=1.0, top_p=0.7),
    SamplingOptions(temperature=1.0, top_p=1e-9),
    SamplingOptions(temperature=1.0, top_p=1.0),
    SamplingOptions(temperature=1.3, top_k=6, top_p=0.8),
    SamplingOptions(temperature=1.0, min_p=0.2),
    SamplingOptions(temperature=1.0, min_p=1.0),
    SamplingOptions(temperature=0.9, top_p=0.9, min_p=0.05, repetition_penalty=1.4),
    SamplingOptions(temperature=1.0, repetition_penalty=0.5),
    SamplingOptions(temperature=0.0, repetition_penalty=5.0),
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_frequencies_follow_the_naive_distribution(options: SamplingOptions) -> None:
    torch.manual_seed(7)
    logits, seen = torch.randn(12) * 2, [1, 4, 4, 9]
    expected = naive_distribution(logits.numpy(), options, seen)
    found = draw(logits, options, seen)
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(expected))
    sigma = np.sqrt(expected * (1 - expected) / COUNT)
    assert np.all(np.abs(found - expected) <= 5 * sigma + 1e-9)


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    logits = torch.randn(3, 50) * 1e4
    options = SamplingOptions(temperature=1e-30)
    ids = sample_next_token(logits, options, generators=row_generators(1, 3), history=[[]] * 3)
    assert torch.equal(ids, logits.argmax(-1))


def test_equal_logits_give_the_first_token_when_greedy() -> None:
    ids = sample_next_token(
        torch.zeros(2, 5), SamplingOptions(), generators=row_generators(None, 2), history=[[], []]
    )
    assert ids.tolist() == [0, 0]


def test_a_seed_gives_a_row_the_same_tokens_whatever_its_neighbours() -> None:
    options = SamplingOptions(temperature=1.0, top_p=0.95, seed=11)
    rows = torch.randn(40, 5, 200)

    def run(columns: list[int]) -> list[list[int]]:
        generators = row_generators(options.seed, len(columns))
        return [
            sample_next_token(
                logits[columns], options, generators=generators, history=[[]] * len(columns)
            ).tolist()
            for logits in rows
        ]

    together, alone = run([0, 1, 2, 3, 4]), run([3])
    assert [step[3] for step in together] == [step[0] for step in alone]
    assert run([3]) == alone


def test_another_seed_gives_other_tokens() -> None:
    def run(seed: int | None) -> list[int]:
        generators = row_generators(seed, 1)
        options = SamplingOptions(temperature=1.0)
        return [
            int(
                sample_next_token(
                    torch.zeros(1, 1000), options, generators=generators, history=[[]]
                )
            )
            for _ in range(8)
        ]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(None) != run(None)


def test_a_forbidden_token_is_never_drawn() -> None:
    logits = torch.full((500, 6), -torch.inf)
    logits[:, 2] = 0.0
    logits[:, 5] = -3.0
    ids = sample_next_token(
        logits, SamplingOptions(temperature=5.0), generators=row_generators(None, 500),
        history=[[]] * 500,
    )  # fmt: skip
    assert set(ids.tolist()) <= {2, 5}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_raise_instead_of_giving_token_0(
    bad: float, temperature: float
) -> None:
    logits = torch.randn(3, 9)
    logits[1, 4] = bad
    with pytest.raises(NumericsError, match=r"rows \[1\] of 3"):
        sample_next_token(
            logits, SamplingOptions(temperature=temperature), generators=row_generators(None, 3),
            history=[[]] * 3,
        )  # fmt: skip


def test_a_row_that_forbids_everything_raises() -> None:
    with pytest.raises(NumericsError):
        sample_next_token(
            torch.full((1, 4), -torch.inf), SamplingOptions(), generators=row_generators(None, 1),
            history=[[]],
        )  # fmt: skip


def test_the_penalty_touches_each_seen_token_once_and_leaves_its_input_alone() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0], [4.0, 4.0, 4.0]])
    before = logits.clone()
    out = penalise_repetition(logits, [[0, 1, 0, 0], []], 2.0)
    assert out.tolist() == [[1.0, -4.0, 1.0], [4.0, 4.0, 4.0]]
    assert torch.equal(logits, before)


def test_log_probabilities_are_of_the_raw_distribution_and_sorted() -> None:
    logits = torch.randn(2, 30)
    chosen, top = log_probs(logits, torch.tensor([4, 7]), num_top=3)
    expected = torch.log_softmax(logits.double(), -1)
    assert chosen == pytest.approx([float(expected[0, 4]), float(expected[1, 7])], abs=1e-5)
    for row in range(2):
        order = expected[row].argsort(descending=True)[:3].tolist()
        assert [id_ for id_, _ in top[row]] == order
    assert log_probs(logits, torch.tensor([0, 0]), num_top=99)[1][0][29][0] in range(30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": "1"},
        {"temperature": True},
        {"top_k": 0},
        {"top_k": -1},
        {"top_k": 2.0},
        {"top_k": True},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"min_p": -0.01},
        {"min_p": 2},
        {"min_p": math.nan},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": math.inf},
        {"repetition_penalty": None},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_a_wrong_option_is_named_with_its_range(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(**wrong)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(name)
    assert repr(value) in text
    assert "at least" in text or "above" in text


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 2), (1.0 - 2**-53, 4)])
def test_the_ends_of_the_random_range_give_possible_tokens(
    uniform: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rand(count: int, **kwargs: object) -> torch.Tensor:
        return torch.full((count,), uniform, dtype=torch.float64)

    monkeypatch.setattr(torch, "rand", rand)
    logits = torch.tensor([[-torch.inf, -torch.inf, 0.1, 0.2, 0.3, -torch.inf]])
    ids = sample_next_token(
        logits, SamplingOptions(temperature=1.0), generators=row_generators(1, 1), history=[[]]
    )
    assert ids.tolist() == [expected]
