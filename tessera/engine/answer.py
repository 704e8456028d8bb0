"""One answer in the course of being written, and what is known when it is done.

Tokens come in, text that can be shown goes out: never half a character, never the start of a stop
string, no white space at either end. How ids become text is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tessera.engine.generate import GeneratedToken
from tessera.engine.stops import StopText

FinishReason = Literal["stop", "length", "stopped by user"]


@dataclass(frozen=True)
class Timing:
    """What an answer cost."""

    prompt_tokens: int  # visual tokens included
    visual_tokens: int
    tiles: int
    first_token_s: float  # from the question to the first token, pictures included
    decode_s: float  # from the first token to the last


@dataclass(frozen=True)
class Answer:
    """What the model said and how it came about."""

    text: str
    token_ids: tuple[int, ...]  # the stop token included
    logprobs: tuple[float, ...]  # natural, one a token, of the model's own distribution
    finish_reason: FinishReason
    timing: Timing
    grids: tuple[tuple[int, int], ...]  # columns and rows of tiles, one entry a picture or frame
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()  # (id, logprob), if asked for
    is_clipped: bool = False  # the context had no room for all of max_new_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """Speed of decoding, the first token not counted; None for answers of a single token."""
        count = len(self.token_ids) - 1
        return count / self.timing.decode_s if count > 0 and self.timing.decode_s > 0 else None


class TokenText(Protocol):
    """Ids in, text out, never half a character: what `processing.tokenizer.TextStream` does."""

    def push(self, token_id: int, /) -> str:
        """Take an id; return the text that is complete."""

    def finish(self) -> str:
        """Return what is left."""


class RowWriter:
    """One answer in the course of being written."""

    def __init__(
        self, stream: TokenText, *, stop: Sequence[str], stop_ids: Sequence[int], budget: int,
        is_clipped: bool,
    ) -> None:  # fmt: skip
        self.finish_reason: FinishReason | None = None
        self.tokens: list[GeneratedToken] = []
        self.text = ""
        self.first_s = self.last_s = 0.0  # moments of the first and the newest token
        self._stream = stream
        self._stop = StopText(stop)
        self._stop_ids = frozenset(stop_ids)
        self._budget = budget
        self.is_clipped = is_clipped
        self._space = ""  # white space that is shown only if more text follows

    def push(self, token: GeneratedToken) -> str:
        """Take a token; return text that can be shown, never a part of a stop string."""
        self.last_s = time.perf_counter()
        self.first_s = self.first_s or self.last_s
        self.tokens.append(token)
        if token.id in self._stop_ids:
            return self.finish("stop")
        shown = self._show(self._stop.push(self._stream.push(token.id)))
        if self._stop.is_found:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self._budget:
            shown += self.finish("length")
        return shown

    def finish(self, reason: FinishReason) -> str:
        """End the answer; return what was held back."""
        if self.finish_reason is not None:
            return ""
        shown = self._show(self._stop.push(self._stream.finish()))
        shown += self._show(self._stop.finish())
        self.finish_reason = "stop" if self._stop.is_found else reason
        return shown

    def _show(self, piece: str) -> str:
        """Strip the answer as it is written: space is kept back until something follows it."""
        body = (self._space + piece) if self.text else piece.lstrip()
        shown = body.rstrip()
        self._space = body[len(shown) :] if (shown or self.text) else ""
        self.text += shown
        return shown
