"""Turn text into the ids of a SentencePiece model, by its own library or by `tokenizers`.

SentencePiece BPE merges the neighbours whose union scores best, the leftmost of equals, while
`tokenizers` ranks *pairs*, so that two ways to split one piece get different ranks. They still give
the same ids if no two pieces share a score. Until a piece p is merged, nothing was merged across
the borders of its letters, so within them the same merges happened as in p alone. These end in one
pair, always the same: two neighbours whose union is p are that pair wherever they stand, and the
leftmost of them wins in both libraries.

Models that are no plain byte-fallback BPE are left to the sentencepiece library.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tessera.processing.sentencepiece_model import BPE, Kind, SentencePieceModel

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a blank


class SentencePieceEncoder:
    """Text to ids, with or without the blank that SentencePiece puts before a text.

    Args:
        model: checked; pieces that text may not produce are control pieces.
        fast: use `tokenizers` where it gives the same ids.
    """

    def __init__(self, model: SentencePieceModel, *, fast: bool = False) -> None:
        self._model = model
        self._libraries: dict[bool, SentencePieceProcessor] = {}
        self._fast = _FastBpe(model) if fast and why_not_fast(model) is None else None

    @property
    def is_fast(self) -> bool:
        """Whether text goes through `tokenizers`."""
        return self._fast is not None

    def encode(self, text: str, *, prefix: bool) -> list[int]:
        """Encode one text. `prefix` asks for the model's leading blank, if it has one."""
        prefix = prefix and self._model.add_dummy_prefix
        if not text:
            return []
        if self._fast is not None:
            return self._fast.encode((SPACE if prefix else "") + text.replace(" ", SPACE))
        return self._library(prefix).encode(text)

    def _library(self, prefix: bool) -> SentencePieceProcessor:
        if prefix not in self._libraries:
            import sentencepiece

            data = self._model.to_bytes(add_dummy_prefix=prefix)
            self._libraries[prefix] = sentencepiece.SentencePieceProcessor(model_proto=data)
        return self._libraries[prefix]


def why_not_fast(model: SentencePieceModel) -> str | None:
    """Say why `tokenizers` would not give the ids of this model, or None when it does."""
    scores = _scores(model)
    letters = {letter for piece in scores for letter in piece}
    reasons = {
        "it is not a BPE model": model.model_type != BPE,
        "it does not fall back to bytes": not model.byte_fallback,
        "it normalises characters": bool(model.charsmap)
        or model.normalizer_name not in ("", "identity"),
        "it removes or keeps blanks": model.remove_extra_whitespaces
        or not model.escape_whitespaces
        or model.whitespace_is_suffix,
        "it has unused pieces": any(piece.kind is Kind.UNUSED for piece in model.pieces),
        "two pieces have one score": len(set(scores.values())) != len(scores),
        "a letter of a piece is no piece": not letters <= scores.keys(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class _FastBpe:
    def __init__(self, model: SentencePieceModel) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE as FastBPE

        scores = _scores(model)
        merges = [
            (piece[:i], piece[i:])
            for piece in sorted(scores, key=lambda p: -scores[p])
            for i in range(1, len(piece))
            if piece[:i] in scores and piece[i:] in scores
        ]
        unknown = next(p.text for p in model.pieces if p.kind is Kind.UNKNOWN)
        vocab = {p.text: index for index, p in enumerate(model.pieces)}
        self._tokenizer = Tokenizer(
            FastBPE(vocab=vocab, merges=merges, unk_token=unknown, byte_fallback=True)
        )
        self._user_defined = {
            p.text: index for index, p in enumerate(model.pieces) if p.kind is Kind.USER_DEFINED
        }
        longest_first = sorted(self._user_defined, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def encode(self, written: str) -> list[int]:
        if not self._user_defined:
            return self._tokenizer.encode(written).ids
        ids: list[int] = []
        for index, part in enumerate(self._split.split(written)):
            if index % 2:
                ids.append(self._user_defined[part])
            elif part:
                ids += self._tokenizer.encode(part).ids
        return ids


def _scores(model: SentencePieceModel) -> dict[str, float]:
    return {piece.text: piece.score for piece in model.pieces if piece.kind is Kind.NORMAL}
