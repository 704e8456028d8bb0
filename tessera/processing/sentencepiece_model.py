"""Read a SentencePiece `tokenizer.model` without trusting it.

A small reader of the protobuf wire format takes only the fields that decide ids; everything is
checked, and what the sentencepiece library is given is written anew from the checked values
(`SentencePieceModel.to_bytes`).
Field numbers: `sentencepiece_model.proto` of google/sentencepiece.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from tessera.errors import CheckpointError

MAX_MODEL_BYTES = 64 * 2**20
_MAX_PIECES = 2_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4


class Kind(IntEnum):
    """What a piece is. Text gives NORMAL and USER_DEFINED ones, and BYTE as a last resort."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place in the list."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True)
class SentencePieceModel:
    """The fields of a model that decide ids."""

    pieces: tuple[Piece, ...]
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    whitespace_is_suffix: bool = False
    normalizer_name: str = ""
    charsmap: bytes = b""  # precompiled character replacements; empty = identity
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    ids: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def without(self, control_ids: frozenset[int]) -> SentencePieceModel:
        """Return the model in which these ids can no longer come from text."""
        pieces = tuple(
            replace(piece, kind=Kind.CONTROL)
            if index in control_ids and piece.kind in (Kind.NORMAL, Kind.USER_DEFINED, Kind.UNUSED)
            else piece
            for index, piece in enumerate(self.pieces)
        )
        return replace(self, pieces=pieces)

    def to_bytes(self, *, add_dummy_prefix: bool) -> bytes:
        """Write the model for the sentencepiece library, from the checked fields alone."""
        unknown = next(p.text for p in self.pieces if p.kind is Kind.UNKNOWN)
        # An absent `<s>` leaves the library's bos id at -1, which is all we need of it.
        trainer = (
            _write_varint(3, self.model_type)
            + _write_varint(24, self.whitespace_is_suffix)
            + _write_varint(35, self.byte_fallback)
            + _write_bytes(45, unknown.encode())
        )
        normalizer = (
            _write_bytes(1, self.normalizer_name.encode())
            + _write_bytes(2, self.charsmap)
            + _write_varint(3, add_dummy_prefix)
            + _write_varint(4, self.remove_extra_whitespaces)
            + _write_varint(5, self.escape_whitespaces)
        )
        pieces = b"".join(
            _write_bytes(
                1,
                _write_bytes(1, p.text.encode())
                + _tag(2, _FIXED32)
                + struct.pack("<f", p.score)
                + _write_varint(3, int(p.kind)),
            )
            for p in self.pieces
        )
        return pieces + _write_bytes(2, trainer) + _write_bytes(3, normalizer)


def read_sentencepiece_model(data: bytes, *, where: str) -> SentencePieceModel:
    """Parse and check a `tokenizer.model`.

    Raises:
        CheckpointError: when it is not a SentencePiece model, or one that contradicts itself.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise CheckpointError(
            f"{where} has {len(data)} bytes, more than the {MAX_MODEL_BYTES} a tokenizer may have"
        )
    try:
        model = _parse(data)
    except (ValueError, struct.error) as error:
        raise CheckpointError(
            f"{where} is not a readable SentencePiece model ({error}); fetch the file again"
        ) from None
    _check(model, where)
    return model


def _parse(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    values: dict[str, object] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_parse_piece(_as_bytes(value)))
            if len(pieces) > _MAX_PIECES:
                raise ValueError(f"more than {_MAX_PIECES} pieces")
        elif number == 2:
            names = {3: "model_type", 24: "whitespace_is_suffix", 35: "byte_fallback"}
            values.update(_parse_settings(_as_bytes(value), names))
        elif number == 3:
            names = {
                1: "normalizer_name", 2: "charsmap", 3: "add_dummy_prefix",
                4: "remove_extra_whitespaces", 5: "escape_whitespaces",
            }  # fmt: skip
            values.update(_parse_settings(_as_bytes(value), names))
    return SentencePieceModel(
        pieces=tuple(pieces),
        ids={piece.text: index for index, piece in enumerate(pieces)},
        **values,  # type: ignore[arg-type]
    )


def _parse_piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, Kind.NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _as_bytes(value).decode("utf-8")
        elif number == 2:
            score = struct.unpack("<f", _as_bytes(value))[0]
        elif number == 3:
            kind = Kind(_as_int(value))
    return Piece(text, score, kind)


def _parse_settings(data: bytes, names: dict[int, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for number, value in _fields(data):
        name = names.get(number)
        if name == "normalizer_name":
            found[name] = _as_bytes(value).decode("utf-8")
        elif name == "charsmap":
            found[name] = _as_bytes(value)
        elif name == "model_type":
            found[name] = _as_int(value)
        elif name is not None:
            found[name] = bool(_as_int(value))
    return found


def _check(model: SentencePieceModel, where: str) -> None:
    def require(condition: bool, message: str) -> None:
        if not condition:
            raise CheckpointError(f"{where} {message}; fetch the file again")

    require(bool(model.pieces), "holds no pieces, so it is not a SentencePiece model")
    require(
        model.model_type in (UNIGRAM, BPE, WORD, CHAR), f"has unknown model type {model.model_type}"
    )
    require(len(model.ids) == len(model.pieces), "names a piece twice")
    require("" not in model.ids, "holds an empty piece")
    require(not any("\0" in p.text for p in model.pieces), "holds a piece with a zero character")
    require(
        all(abs(p.score) < 1e30 for p in model.pieces), "holds a piece whose score is not a number"
    )
    unknown = sum(p.kind is Kind.UNKNOWN for p in model.pieces)
    require(unknown == 1, f"has {unknown} unknown pieces instead of one")
    byte_names = {p.text for p in model.pieces if p.kind is Kind.BYTE}
    require(
        byte_names <= {f"<0x{value:02X}>" for value in range(256)},
        "holds a byte piece that names no byte",
    )
    require(
        not model.byte_fallback or len(byte_names) == 256,
        f"falls back to bytes but has {len(byte_names)} of the 256 byte pieces",
    )
    require(model.byte_fallback or not byte_names, "has byte pieces without falling back to bytes")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _read_varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + size > len(data):
            raise ValueError(f"a field of {size} bytes at byte {position} of {len(data)}")
        yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("the file ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"an endless number at byte {position}")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return value


def _as_int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("text where a number was expected")
    return value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _write_varint(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint(int(value))


def _write_bytes(number: int, value: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(value)) + value
