"""Which token comes next: pure functions from logits to ids.

A row's choice depends on its own logits, history and generator only, never on its neighbours in the
batch. The steps come in the order of `transformers`: repetition penalty, temperature, top-k, top-p,
min-p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tessera.errors import ConfigError, UserError

_MAX_SEED = 2**63 - 1


class NumericsError(UserError):
    """Logits that are no numbers: broken weights, or an overflow of a small number type."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How to choose among the next tokens; the default is the likeliest one.

    Raises:
        ConfigError: A value is out of its range, not a number, or of another type.
    """

    temperature: float = 0.0  # 0: the likeliest token; 1: the model's own distribution
    top_k: int | None = None  # only the k likeliest; None: all
    top_p: float | None = None  # the smallest set that holds this much probability; None: all
    min_p: float | None = None  # at least this share of the likeliest; None: all
    repetition_penalty: float = 1.0  # above 1: tokens of the answer so far become less likely
    seed: int | None = None  # None: another answer every time

    def __post_init__(self) -> None:
        _require_number("temperature", self.temperature, low=0.0, low_open=False)
        _require_number("repetition_penalty", self.repetition_penalty, low=0.0, low_open=True)
        if self.top_p is not None:
            _require_number("top_p", self.top_p, low=0.0, low_open=True, high=1.0)
        if self.min_p is not None:
            _require_number("min_p", self.min_p, low=0.0, low_open=False, high=1.0)
        if self.top_k is not None:
            require_int("top_k", self.top_k, low=1)
        if self.seed is not None:
            require_int("seed", self.seed, low=0, high=_MAX_SEED)

    @property
    def is_greedy(self) -> bool:
        """True if the likeliest token is taken and no randomness is involved."""
        return self.temperature == 0.0


def require_int(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raise ConfigError unless `value` is a whole number from `low` to `high`."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= low
    if not ok or (high is not None and isinstance(value, int) and value > high):
        upper = "" if high is None else f" and at most {high}"
        raise ConfigError(f"{name} must be a whole number of at least {low}{upper}, not {value!r}")


def _require_number(
    name: str, value: object, *, low: float, low_open: bool, high: float = math.inf
) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (int, float)) and is_number and math.isfinite(value):
        above = value > low if low_open else value >= low
        if above and value <= high:
            return
    bounds = f"{'above' if low_open else 'at least'} {low:g}"
    bounds += f" and at most {high:g}" if math.isfinite(high) else ""
    raise ConfigError(f"{name} must be a finite number {bounds}, not {value!r}")


def row_generators(seed: int | None, num_rows: int) -> list[torch.Generator]:
    """Return one random generator a row, all of the same seed.

    A row therefore gets the answer it would get alone. Rows with the same prompt get the same
    answer: ask with different seeds for different answers.
    """
    generators = [torch.Generator() for _ in range(num_rows)]
    for generator in generators:
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
    return generators


def sample_next_token(
    logits_BV: torch.Tensor,
    options: SamplingOptions,
    *,
    generators: Sequence[torch.Generator],
    history: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Choose one id a row: logits [B, V] -> ids [B].

    A logit of -inf forbids its token. `history[b]` holds the ids that the penalty acts on: the
    answer so far, without the prompt, as in the published model, which generates from embeddings.
    Each call takes one random number from each of `generators` unless the choice is greedy.

    Raises:
        NumericsError: A row holds NaN or +inf, or forbids every token.
    """
    require_usable(logits_BV)
    logits_BV = penalise_repetition(logits_BV.float(), history, options.repetition_penalty)
    if options.is_greedy:
        return logits_BV.argmax(dim=-1)
    # Subtracting the maximum first keeps a tiny temperature from overflowing.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / options.temperature
    scaled_BK, ids_BK = _candidates(scaled_BV, options)
    probs_BK = torch.softmax(scaled_BK.double(), dim=-1)
    if options.top_p is not None and options.top_p < 1.0:
        before_BK = probs_BK.cumsum(dim=-1) - probs_BK
        probs_BK = probs_BK.masked_fill(before_BK >= options.top_p, 0.0)
    if options.min_p is not None:
        floor_B1 = options.min_p * probs_BK.amax(dim=-1, keepdim=True)
        probs_BK = probs_BK.masked_fill(probs_BK < floor_B1, 0.0)
    choice_B1 = _draw(probs_BK, generators)
    return choice_B1[:, 0] if ids_BK is None else ids_BK.gather(1, choice_B1)[:, 0]


def _candidates(
    scaled_BV: torch.Tensor, options: SamplingOptions
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the values that the cuts look at, likeliest first, and their ids (None: in order)."""
    if options.top_k is not None and options.top_k < scaled_BV.shape[-1]:
        values, ids = scaled_BV.topk(options.top_k, dim=-1)
        return values, ids
    if options.top_p is not None and options.top_p < 1.0:
        values, ids = scaled_BV.sort(dim=-1, descending=True, stable=True)
        return values, ids
    return scaled_BV, None


def _draw(probs_BK: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Invert the cumulative distribution at one random number a row."""
    assert len(generators) == probs_BK.shape[0], (len(generators), probs_BK.shape)
    uniform = [torch.rand(1, dtype=torch.float64, generator=g) for g in generators]
    cdf_BK = probs_BK.cumsum(dim=-1)
    target_B1 = torch.stack(uniform).to(cdf_BK.device) * cdf_BK[:, -1:]
    choice_B1 = torch.searchsorted(cdf_BK, target_B1, right=True)
    # Rounding may put the target on the very end: take the last token that is possible at all.
    order_K = torch.arange(probs_BK.shape[1], device=probs_BK.device)
    last_B1 = torch.where(probs_BK > 0, order_K, -1).amax(dim=-1, keepdim=True)
    return torch.minimum(choice_B1, last_B1)


def penalise_repetition(
    logits_BV: torch.Tensor, history: Sequence[Sequence[int]], penalty: float
) -> torch.Tensor:
    """Divide positive, multiply negative logits of ids in `history` (arXiv 1909.05858, 4.1)."""
    if penalty == 1.0 or not any(history):
        return logits_BV
    logits_BV = logits_BV.clone()
    for row, ids in enumerate(history):
        seen = torch.tensor(sorted(set(ids)), dtype=torch.long, device=logits_BV.device)
        values = logits_BV[row, seen]
        logits_BV[row, seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits_BV


def require_usable(logits_BV: torch.Tensor) -> None:
    """Raise NumericsError if a row has NaN or +inf or no possible token."""
    # The maximum of a row is NaN if any entry is, so one reduction sees all three cases.
    peak_B = logits_BV.amax(dim=-1)
    bad = (~torch.isfinite(peak_B)).nonzero()[:, 0].tolist()
    if bad:
        kinds = ", ".join(str(float(peak_B[row])) for row in bad[:3])
        raise NumericsError(
            f"the model gave no usable numbers (largest logit {kinds}) for rows {bad[:3]} of "
            f"{len(peak_B)}; the weights are broken or the number type overflows: try float32"
        )


def log_probs(
    logits_BV: torch.Tensor, ids_B: torch.Tensor, *, num_top: int = 0
) -> tuple[list[float], list[tuple[tuple[int, float], ...]]]:
    """Return the natural log-probability of each chosen id, and of the `num_top` likeliest ids.

    They are of the model's own distribution: before penalty, temperature and cuts.
    """
    logprobs_BV = torch.log_softmax(logits_BV.float(), dim=-1)
    chosen: list[float] = logprobs_BV.gather(1, ids_B[:, None])[:, 0].tolist()
    if num_top == 0:
        return chosen, [() for _ in chosen]
    values, ids = logprobs_BV.topk(min(num_top, logits_BV.shape[-1]), dim=-1)
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return chosen, [tuple(zip(row_ids, row, strict=True)) for row_ids, row in pairs]
