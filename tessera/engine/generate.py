"""Prefill once, then decode a batch token by token with a cache.

    row 0   . . . a b c d | t0 t1 </s>         prompts are padded on the left, so that every row's
    row 1   e f g h i j k | t0 t1 t2 t3 </s>   newest token stands in the same column; a row that
    row 2   . l m n o p q | t0 </s>            is finished leaves the batch and its cache is freed

Every row gets the tokens it would get alone, up to rounding: sampled rows too, because each has its
own random numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from tessera.config import LanguageConfig
from tessera.engine.kernels import undisturbed
from tessera.engine.memory import Memory, Prompt, hash_tile, reusable_length
from tessera.engine.sampling import (
    SamplingOptions,
    log_probs,
    require_int,
    row_generators,
    sample_next_token,
)
from tessera.errors import ConfigError, PromptError
from tessera.models.cache import KVCache
from tessera.models.chat import ChatModel

_log = logging.getLogger("tessera")

TILES_AT_ONCE = 4  # encoder activations of more tiles only cost memory: one tile is 1025 positions
_FIRST_CAPACITY = 128  # new tokens that the cache has room for before it grows


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How long to generate and how to choose.

    Raises:
        ConfigError: A value is out of its range or of another type.
    """

    max_new_tokens: int = 1024
    min_new_tokens: int = 0  # stop tokens are forbidden before this many tokens
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    num_logprobs: int = 0  # how many of the likeliest tokens to report beside the chosen one

    def __post_init__(self) -> None:
        require_int("max_new_tokens", self.max_new_tokens, low=1)
        require_int("min_new_tokens", self.min_new_tokens, low=0)
        require_int("num_logprobs", self.num_logprobs, low=0, high=20)
        if self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(
                f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens "
                f"{self.max_new_tokens}: lower the one or raise the other"
            )


@dataclass(frozen=True)
class GeneratedToken:
    """One chosen token; log-probabilities are natural and of the model's own distribution."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (id, logprob), likeliest first


def context_limit(config: LanguageConfig) -> int:
    """Positions that a decoder reads: those it was trained for, `factor` times as many with NTK."""
    if config.rope.kind == "dynamic":
        return int(config.max_positions * config.rope.factor)
    return config.max_positions


def plan_new_tokens(
    config: LanguageConfig, ids: Sequence[Sequence[int]], max_new: int
) -> list[int]:
    """Return how many tokens each row may get: `max_new`, or fewer where the context ends first.

    Raises:
        PromptError: A prompt is empty, not of this vocabulary, or leaves no room for a token.
    """
    limit = context_limit(config)
    for row, prompt in enumerate(ids):
        if not prompt:
            raise PromptError(f"conversation {row + 1} of {len(ids)} has no tokens to read")
        if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
            raise PromptError(
                f"conversation {row + 1} of {len(ids)} holds token id {max(prompt)} but the "
                f"vocabulary has {config.vocab_size}: take the tokenizer of these weights"
            )
        if len(prompt) >= limit:
            raise PromptError(
                f"conversation {row + 1} of {len(ids)} is {len(prompt)} tokens long but the model "
                f"reads at most {limit} with the answer: lower --max-tiles, or shorten the text or "
                "the history"
            )
    return [min(max_new, limit - len(prompt)) for prompt in ids]


def pad_left(ids: Sequence[Sequence[int]], *, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids [B, L] with `pad_id` on the left and segments [B, L]: 0 there, 1 on the tokens."""
    length = max(len(row) for row in ids)
    padded = [[pad_id] * (length - len(row)) + list(row) for row in ids]
    segments = [[0] * (length - len(row)) + [1] * len(row) for row in ids]
    return torch.tensor(padded, dtype=torch.long), torch.tensor(segments, dtype=torch.long)


@torch.inference_mode()
def encode_tiles(model: ChatModel, pixels_TCYX: torch.Tensor) -> torch.Tensor:
    """Encode tiles a few at a time, so that memory does not grow with the number of pictures."""
    chunks = [
        model.encode_tiles(chunk.to(device=model.device, dtype=model.dtype))
        for chunk in pixels_TCYX.split(TILES_AT_ONCE)
    ]
    return torch.cat(chunks)


def generate(
    model: ChatModel,
    ids: Sequence[Sequence[int]],
    pixels_TCYX: torch.Tensor | None = None,
    *,
    visual_token_id: int,
    stop_ids: Collection[int],
    options: GenerationOptions | None = None,
    memory: Memory | None = None,
) -> Generation:
    """Answer prompts that are ids with visual placeholders; iterate over the result for the tokens.

    Args:
        model: The chat model, in eval mode.
        ids: One prompt a row, of any lengths.
        pixels_TCYX: Normalised tiles of all rows in the order of their placeholders, if any.
        visual_token_id: The placeholder of one visual token.
        stop_ids: Tokens that end a row; the one that did is the row's last token.
        options: None: greedy, at most 1024 tokens.
        memory: What is kept of earlier prompts and tiles of this model, and adds these.

    Raises:
        PromptError: A prompt is empty or too long, or pictures and placeholders differ in number.
    """
    return Generation(
        model,
        ids,
        pixels_TCYX,
        visual_token_id=visual_token_id,
        stop_ids=stop_ids,
        options=options or GenerationOptions(),
        memory=memory,
    )


class Generation(Iterator[list[GeneratedToken | None]]):
    """A batch being answered: each step gives one token a row, None where the row is done.

    Prompts are checked at once; nothing is computed before the first step. Stopping to iterate
    leaves nothing behind: there is no thread, and `close` (or losing the last reference) frees the
    cache.
    """

    def __init__(
        self,
        model: ChatModel,
        ids: Sequence[Sequence[int]],
        pixels_TCYX: torch.Tensor | None,
        *,
        visual_token_id: int,
        stop_ids: Collection[int],
        options: GenerationOptions,
        memory: Memory | None,
    ) -> None:
        self.budgets = plan_new_tokens(model.config.language, ids, options.max_new_tokens)
        if self.budgets and min(self.budgets) < options.max_new_tokens:
            _log.info(
                "the context leaves room for %d of max_new_tokens %d",
                min(self.budgets),
                options.max_new_tokens,
            )
        self._model = model
        self._prompts = [list(row) for row in ids]
        self._pixels = pixels_TCYX
        self._visual_token_id = visual_token_id
        vocab_size = model.config.language.vocab_size
        self._stop_ids = frozenset(id_ for id_ in stop_ids if 0 <= id_ < vocab_size)
        self.options = options
        self._generators = row_generators(options.sampling.seed, len(ids))
        self._answers: list[list[int]] = [[] for _ in ids]
        # The length at which the rotary factors of a long-context Phi-3 change.
        original = model.config.language.rope.original_max_positions
        self._switch_length = None if original is None else original + 1
        self._prompt_embeds: torch.Tensor | None = None
        self._cache: KVCache | None = None
        self._in_cache: list[int] = []  # the row of the batch that each row of the cache belongs to
        self._active = list(range(len(ids)))
        self._memory = memory
        self._prompt: Prompt | None = None  # of a single row that may be remembered

    def __next__(self) -> list[GeneratedToken | None]:
        if not self._active:
            self.close()
            raise StopIteration
        try:
            tokens = self._choose(self._prefill() if self._cache is None else self._read_newest())
        except BaseException:
            self.close()
            raise
        step: list[GeneratedToken | None] = [None] * len(self._prompts)
        for row, token in zip(self._active, tokens, strict=True):
            step[row] = token
            self._answers[row].append(token.id)
        self._active = [row for row in self._active if not self._is_done(row)]
        return step

    def drop(self, row: int) -> None:
        """End a row early (a stop string, a client that went away); the others go on."""
        if row in self._active:
            self._active.remove(row)

    def close(self) -> None:
        """End every row and free what the batch held; safe to call twice."""
        cache, self._cache = self._cache, None  # first: an interrupt must not keep it twice
        self._active = []
        self._remember(cache)
        self._pixels = self._prompt_embeds = None

    def _is_done(self, row: int) -> bool:
        answer = self._answers[row]
        return answer[-1] in self._stop_ids or len(answer) >= self.budgets[row]

    @torch.inference_mode()
    def _prefill(self) -> torch.Tensor:
        """Read the prompts into a new cache; return the logits of what follows, [B, V]."""
        model = self._model
        hashes = self._recognise()
        if self._memory and self._prompt:
            self._cache = self._memory.prompts.take(self._prompt)
        start = self._cache.length if self._cache else 0
        ids_BL, segments_BL = pad_left(self._prompts, pad_id=1 if self._visual_token_id == 0 else 0)
        visual_TSD = self._encode(hashes, self._prompt.tiles_before(start) if self._prompt else 0)
        self._pixels = None
        embeds_BLD = model.embed(
            ids_BL[:, start:].to(model.device), visual_TSD, visual_token_id=self._visual_token_id
        )
        if self._cache:
            self._in_cache = [0]
            return model(embeds_BLD, cache=self._cache, last_only=True)[:, 0]
        if any(map(self._may_switch, range(len(self._prompts)))):
            self._prompt_embeds = embeds_BLD
        rows = list(range(len(self._prompts)))
        return self._read(embeds_BLD, segments_BL.to(model.device), rows)[self._active]

    def _recognise(self) -> tuple[bytes, ...]:
        """Hash the tiles, and describe the prompt if its keys and values can be kept."""
        if self._memory is None:
            return ()
        hashes = () if self._pixels is None else tuple(map(hash_tile, self._pixels))
        config = self._model.config
        is_plain = len(self._prompts) == 1 and not self._may_switch(0)
        if is_plain and len(self._prompts[0]) <= reusable_length(config.language):
            self._prompt = Prompt(
                torch.tensor(self._prompts[0]),
                hashes,
                self._visual_token_id,
                config.visual_tokens_per_tile,
            )
        return hashes

    def _encode(self, hashes: tuple[bytes, ...], start: int) -> torch.Tensor | None:
        """Return the visual tokens of the tiles from `start` on, None if there are none."""
        if self._pixels is None or start == len(self._pixels):
            return None
        if self._memory is None:
            return encode_tiles(self._model, self._pixels)
        return self._memory.tiles.encode(
            self._pixels[start:], hashes[start:], lambda pixels: encode_tiles(self._model, pixels)
        )

    def _remember(self, cache: KVCache | None) -> None:
        """Give the keys and values of a single row back, for the next question."""
        if cache is None or self._prompt is None or self._memory is None:
            return
        answer = self._answers[0]
        if self._visual_token_id in answer:  # would be taken for a picture's
            return
        if 0 < cache.length <= reusable_length(self._model.config.language):
            ids_L = torch.tensor([*self._prompts[0], *answer])[: cache.length]
            self._memory.prompts.put(replace(self._prompt, ids_L=ids_L), cache)

    def _read_newest(self) -> torch.Tensor:
        with undisturbed(self._model):
            return self._decode()

    @torch.inference_mode()
    def _decode(self) -> torch.Tensor:
        """Read the newest token of every active row; return the logits of the next, [B, V]."""
        assert self._cache is not None, "decode follows prefill"
        if any(self._length(row) == self._switch_length for row in self._active):
            return self._reread()
        if self._active != self._in_cache:
            self._cache.select([self._in_cache.index(row) for row in self._active])
            self._in_cache = list(self._active)
        embedding = self._model.language.embedding
        newest = [[self._answers[row][-1]] for row in self._active]
        # Not `embed`: a placeholder that the model itself writes is an ordinary token.
        embeds_B1D = embedding(torch.tensor(newest, device=self._model.device))
        return self._model(embeds_B1D, cache=self._cache, last_only=True)[:, 0]

    def _reread(self) -> torch.Tensor:
        """Read prompts and answers again: keys of the short factors are of no use to long ones.

        As `transformers` does for Phi-3; its release mixed both in one cache.
        """
        assert self._prompt_embeds is not None, "kept where a row may come to the switch"
        embedding = self._model.language.embedding
        embeds = []
        for row in self._active:
            answer = torch.tensor(self._answers[row], device=self._model.device)
            prompt_LD = self._prompt_embeds[row, -len(self._prompts[row]) :]
            embeds.append(torch.cat([prompt_LD, embedding(answer)]))
        embeds_BLD = pad_sequence(embeds, batch_first=True, padding_side="left")
        ones = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in embeds]
        segments_BL = pad_sequence(ones, batch_first=True, padding_side="left")
        return self._read(embeds_BLD, segments_BL, list(self._active))

    def _read(
        self, embeds_BLD: torch.Tensor, segments_BL: torch.Tensor, rows: list[int]
    ) -> torch.Tensor:
        """Read whole rows into a new cache; return the logits of what follows, [B, V]."""
        self._in_cache = rows
        self._cache = KVCache(
            self._model.config.language,
            len(rows),
            capacity=embeds_BLD.shape[1] + min(max(self.budgets), _FIRST_CAPACITY),
            dtype=embeds_BLD.dtype,
            device=embeds_BLD.device,
        )
        is_padded = not bool(segments_BL.all())
        return self._model(
            embeds_BLD,
            segments_BL=segments_BL if is_padded else None,
            cache=self._cache,
            last_only=True,
        )[:, 0]

    def _length(self, row: int) -> int:
        return len(self._prompts[row]) + len(self._answers[row])

    def _may_switch(self, row: int) -> bool:
        prompt = len(self._prompts[row])
        return prompt < (self._switch_length or 0) <= prompt + self.budgets[row]

    @torch.inference_mode()
    def _choose(self, logits_BV: torch.Tensor) -> list[GeneratedToken]:
        """Choose on the CPU, where random numbers are the same for every device."""
        logits_BV = logits_BV.float().cpu()
        allowed_BV = logits_BV
        is_short = [len(self._answers[row]) < self.options.min_new_tokens for row in self._active]
        if any(is_short) and self._stop_ids:
            allowed_BV = logits_BV.clone()
            short_rows = torch.tensor(is_short).nonzero()
            allowed_BV[short_rows, torch.tensor(sorted(self._stop_ids))] = -torch.inf
        ids_B = sample_next_token(
            allowed_BV,
            self.options.sampling,
            generators=[self._generators[row] for row in self._active],
            history=[self._answers[row] for row in self._active],
        )
        chosen, top = log_probs(logits_BV, ids_B, num_top=self.options.num_logprobs)
        rows = zip(ids_B.tolist(), chosen, top, strict=True)
        return [GeneratedToken(id_, logprob, likeliest) for id_, logprob, likeliest in rows]
