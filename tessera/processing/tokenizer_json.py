"""Text to ids by a `tokenizer.json` (BPE), rebuilt from checked parts.

Its added tokens are left out, so that no text can produce them, and its leading blank is taken out
of the pipeline, so that the caller says where a text begins.
"""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from tessera.errors import CheckpointError
from tessera.processing.sentencepiece_convert import SPACE
from tessera.processing.tokenizer_files import MAX_ID, PrefixPlaces

_NORMALIZERS = ("Sequence", "NFC", "NFKC", "NFD", "NFKD", "Replace", "Prepend")
_SCHEMES: dict[str, PrefixPlaces] = {"always": "every", "first": "first"}
_PRE_TOKENIZERS = ("Sequence", "ByteLevel", "Digits", "Split", "Metaspace")


class JsonEncoder:
    """The BPE model of a `tokenizer.json` without its added tokens."""

    def __init__(self, data: dict[str, Any], *, control: Set[str], where: str) -> None:
        self._where = where
        self.prefix_places: PrefixPlaces = "never"
        self.vocab = read_vocab(data, where=where)
        model = data["model"]
        self.is_byte_level = False
        normalizer = self._clean(data.get("normalizer"), _NORMALIZERS, "normalizers")
        splitter = self._clean(data.get("pre_tokenizer"), _PRE_TOKENIZERS, "pretokenizers")
        kept = {name: index for name, index in self.vocab.items() if name not in control}
        merges = [
            pair
            for pair in self._read_merges(model.get("merges"))
            if not {pair[0], pair[1], pair[0] + pair[1]} & control
        ]
        unknown = model.get("unk_token")
        cleaned = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": normalizer,
            "pre_tokenizer": splitter,
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": unknown if isinstance(unknown, str) and unknown in kept else None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": model.get("fuse_unk") is True,
                "byte_fallback": model.get("byte_fallback") is True,
                "ignore_merges": model.get("ignore_merges") is True,
                "vocab": kept,
                "merges": merges,
            },
        }
        self.byte_fallback = cleaned["model"]["byte_fallback"]
        self._tokenizer = self._build(json.dumps(cleaned))

    def encode(self, text: str, *, prefix: bool) -> list[int]:
        """Encode one text, behind a blank if `prefix` and the model has one."""
        if not text:
            return []
        if prefix and self.prefix_places != "never":
            text = " " + text
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def surface(self, name: str) -> bytes:
        """Return the bytes that a vocabulary entry stands for."""
        if self.is_byte_level:
            return b"".join(
                BYTE_OF_LETTER[letter]
                if letter in BYTE_OF_LETTER
                else letter.encode("utf-8", "replace")
                for letter in name
            )
        if self.byte_fallback and len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            try:
                return bytes([int(name[3:5], 16)])
            except ValueError:
                pass
        return name.replace(SPACE, " ").encode("utf-8", "replace")

    def _build(self, text: str) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(text)
        except Exception:  # the library raises nothing narrower
            raise self._malformed("the tokenizers library refuses its parts") from None

    def _read_merges(self, merges: object) -> list[list[str]]:
        if not isinstance(merges, list):
            raise self._malformed("model.merges is no list")
        pairs = []
        for merge in merges:
            pair = merge.split(" ") if isinstance(merge, str) else merge
            if not isinstance(pair, list) or [type(part) for part in pair] != [str, str]:
                raise self._malformed("model.merges holds something that is no pair")
            if not {pair[0], pair[1], pair[0] + pair[1]} <= self.vocab.keys():
                raise self._malformed("model.merges names a piece that model.vocab does not have")
            pairs.append(pair)
        return pairs

    def _clean(self, part: object, allowed: tuple[str, ...], children: str, depth: int = 0) -> Any:
        """Check a pipeline step and take the leading blank out of it."""
        if part is None:
            return None
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind not in allowed or depth > 3:
            raise self._malformed(f"step {str(kind)[:40]!r} is not supported")
        if kind == "Sequence":
            steps = part.get(children)
            if not isinstance(steps, list) or len(steps) > 16:
                raise self._malformed(f"{children} is no short list")
            cleaned = [self._clean(step, allowed, children, depth + 1) for step in steps]
            return {"type": "Sequence", children: [step for step in cleaned if step is not None]}
        if kind == "Prepend":
            self.prefix_places = "every"
            return None
        if kind == "Metaspace":
            scheme = part.get("prepend_scheme", "always")
            self.prefix_places = _SCHEMES.get(str(scheme), "never")
            return {**part, "prepend_scheme": "never"}
        if kind == "ByteLevel":
            self.is_byte_level = True
            if part.get("add_prefix_space", True):
                self.prefix_places = "first"
            return {**part, "add_prefix_space": False}
        return part

    def _malformed(self, what: str) -> CheckpointError:
        return _malformed(what, self._where)


def read_vocab(data: dict[str, Any], *, where: str) -> dict[str, int]:
    """Return the checked vocabulary of a `tokenizer.json`.

    Raises:
        CheckpointError: when there is none, or an id is no number, out of range or given twice.
    """
    model = data.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise _malformed("model is not a BPE model", where)
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise _malformed("model.vocab is no table", where)
    ids = vocab.values()
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in ids):
        raise _malformed("model.vocab holds an id that is no number", where)
    if len(set(ids)) != len(vocab) or min(ids) < 0 or max(ids) >= MAX_ID:
        raise _malformed("model.vocab holds an id twice or out of range", where)
    return vocab


def _malformed(what: str, where: str) -> CheckpointError:
    return CheckpointError(f"{where}: {what}; fetch the file again")


def _letters_of_bytes() -> dict[str, bytes]:
    """Return GPT-2's printable stand-ins for the 256 bytes, backwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    table = {chr(value): bytes([value]) for value in printable}
    return table | {chr(256 + index): bytes([value]) for index, value in enumerate(others)}


BYTE_OF_LETTER = _letters_of_bytes()
