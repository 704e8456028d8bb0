"""Words to ids and back, for every tokenizer that the released models bring.

Text can never produce a control token: control names are not looked for in text, and pieces of the
vocabulary that are control tokens (or were renamed to one) are taken out of the merging. Grounding
markup (`<ref>`, `<box>`, `<quad>` and their ends) is content and keeps its ids. Who needs a control
token asks for it by name (`token_id`).

SentencePiece puts a blank before a text, and the reference does so at different places:

    InternLM2, LLaMA `legacy: true`     every run of text between special tokens ("every")
    LLaMA `legacy: false` (Phi-3)       only a run that starts the sequence ("first")
    byte-level BPE                      nowhere ("never")
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from tessera.errors import CheckpointError, ConfigError, nearest
from tessera.processing.sentencepiece_convert import SPACE, SentencePieceEncoder
from tessera.processing.sentencepiece_model import (
    MAX_MODEL_BYTES,
    Kind,
    Piece,
    SentencePieceModel,
    read_sentencepiece_model,
)
from tessera.processing.tokenizer_files import (
    AddedToken,
    PrefixPlaces,
    TokenizerFiles,
    read_tokenizer_files,
)
from tessera.processing.tokenizer_json import JsonEncoder, read_vocab

Place = Literal["start", "after_token", "after_text"]
_LOOKS_LIKE_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


class TextEncoder(Protocol):
    """Encodes text that holds no special token."""

    def encode(self, text: str, *, prefix: bool) -> list[int]:
        """Return ids; `prefix` asks for the blank before the text."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A vocabulary, its added tokens and the rules of the release. Made by `from_directory`."""

    encoder: TextEncoder
    # by id: the bytes of a piece, of a control token its name
    surfaces: tuple[bytes, ...] = field(repr=False)
    added: dict[str, AddedToken] = field(repr=False)
    control_ids: frozenset[int] = field(repr=False)
    prefix_places: PrefixPlaces
    bos_id: int | None  # only if the tokenizer puts it before every sequence
    eos_id: int | None
    names: dict[str, int] = field(repr=False)  # of control tokens and markup

    @classmethod
    def from_directory(cls, directory: str | Path, *, fast: bool = False) -> Tokenizer:
        """Read `tokenizer.model`, or else `tokenizer.json`, and the files beside it.

        Args:
            directory: a released checkpoint; nothing in it is executed.
            fast: encode SentencePiece text by the `tokenizers` library, with the same ids.

        Raises:
            CheckpointError: when files are missing, damaged or contradict each other.
        """
        files = read_tokenizer_files(Path(directory))
        return _from_model(files, fast=fast) if files.has_model else _from_json(files)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self.surfaces)

    @cached_property
    def markup_ids(self) -> frozenset[int]:
        """Ids of added tokens that text may hold: the grounding markup the tokenizer knows."""
        return frozenset(token.id for token in self.added.values() if not token.is_control)

    def token_id(self, name: str) -> int:
        """Return the id of a control token or of markup.

        Raises:
            ConfigError: when the tokenizer has none of this name.
        """
        if name not in self.names:
            raise ConfigError(
                f"the tokenizer has no token {name!r}; use the tokenizer files of the model."
                f"{nearest(name, self.names)}"
            )
        return self.names[name]

    def encode(self, text: str, *, markup: bool = True, place: Place = "start") -> list[int]:
        """Encode text in which control tokens are ordinary characters.

        Args:
            text: any string; lone surrogates become U+FFFD.
            markup: keep grounding markup as tokens; False encodes its characters.
            place: what stands before the text: nothing, a special token, or other text.
        """
        ids: list[int] = []
        for piece in self.split_markup(text) if markup else [text]:
            if isinstance(piece, AddedToken):
                ids.append(piece.id)
                place = "after_token"
                continue
            ids += self.encoder.encode(_without_surrogates(piece), prefix=self._has_prefix(place))
        return ids

    def split_markup(self, text: str) -> list[str | AddedToken]:
        """Split text at grounding markup, blanks swallowed where the markup's rules say so."""
        found: list[str | AddedToken] = []
        for index, piece in enumerate(self._markup_pattern.split(text)):
            if index % 2:
                token = self.added[piece]
                if token.lstrip and found and isinstance(found[-1], str):
                    found[-1] = found[-1].rstrip()
                found.append(token)
                continue
            if found and isinstance(found[-1], AddedToken) and found[-1].rstrip:
                piece = piece.lstrip()
            found.append(piece)
        return [piece for piece in found if piece]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of ids; grounding markup stays, control tokens only on request."""
        stream = TextStream(self, skip_special=skip_special)
        return "".join([stream.push(index) for index in ids]) + stream.finish()

    def _has_prefix(self, place: Place) -> bool:
        if self.prefix_places == "every":
            return place != "after_text"
        return self.prefix_places == "first" and place == "start"

    @cached_property
    def _markup_pattern(self) -> re.Pattern[str]:
        names = [name for name, token in self.added.items() if not token.is_control]
        names.sort(key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, names)) + ")" if names else r"(?!)()")


class TextStream:
    """Text of ids as they come; the pieces joined are exactly `Tokenizer.decode` of all ids.

    A character is held back until all its bytes are there. The blank that the encoder puts before a
    text is taken off again.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = tokenizer.prefix_places != "never"
        self._special = tokenizer.control_ids | tokenizer.markup_ids

    def push(self, token_id: int) -> str:
        """Take one id, return the text that is certain now (often empty)."""
        known = self._tokenizer.surfaces
        surface = known[token_id] if 0 <= token_id < len(known) else b""
        if token_id not in self._special:
            if self._at_start and surface:
                surface = surface.removeprefix(b" ")
                self._at_start = False
            return self._decoder.decode(surface)
        if token_id != self._tokenizer.bos_id:
            self._at_start = self._tokenizer.prefix_places == "every"
        if self._skip_special and token_id in self._tokenizer.control_ids:
            return ""
        return self._decoder.decode(surface)

    def finish(self) -> str:
        """Return what is left: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def _from_model(files: TokenizerFiles, *, fast: bool) -> Tokenizer:
    path = files.directory / "tokenizer.model"
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise CheckpointError(
                f"{path} has more than {MAX_MODEL_BYTES} bytes; no tokenizer needs that"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check the file") from None
    model = read_sentencepiece_model(data, where=str(path))
    native = {p.text: index for index, p in enumerate(model.pieces) if _is_native_control(p)}
    control = _control_ids(files, native, model.ids)
    renamed = {
        token.id
        for token in files.added.values()
        if token.id < len(model.pieces) and model.pieces[token.id].text != token.content
    }
    surfaces = [
        piece.text.encode() if index in control else _surface(piece)
        for index, piece in enumerate(model.pieces)
    ]
    return Tokenizer(
        encoder=SentencePieceEncoder(model.without(control | renamed), fast=fast),
        surfaces=_with_added(surfaces, files.added),
        added=files.added,
        control_ids=control,
        prefix_places=_prefix_places(files, model),
        bos_id=_bos_id(files, model.ids),
        eos_id=_named_id(files, model.ids, "eos_token", "</s>"),
        names=native | {name: token.id for name, token in files.added.items()},
    )


def _from_json(files: TokenizerFiles) -> Tokenizer:
    path = files.directory / "tokenizer.json"
    if files.fast is None:
        raise CheckpointError(f"{path} is missing; put the tokenizer of the model there")
    vocab = read_vocab(files.fast, where=str(path))
    control = _control_ids(files, {}, vocab)
    blocked = {name for name, token in files.added.items() if token.is_control}
    added_ids = {token.id: name for name, token in files.added.items()}
    blocked |= {n for n, i in vocab.items() if i in control or added_ids.get(i, n) != n}
    encoder = JsonEncoder(files.fast, control=blocked, where=str(path))
    surfaces = [b""] * (1 + max(vocab.values()))
    for name, index in vocab.items():
        surfaces[index] = (
            name.encode("utf-8", "replace") if index in control else encoder.surface(name)
        )
    return Tokenizer(
        encoder=encoder,
        surfaces=_with_added(surfaces, files.added),
        added=files.added,
        control_ids=control,
        prefix_places=encoder.prefix_places,
        bos_id=_bos_id(files, vocab),
        eos_id=_named_id(files, vocab, "eos_token", ""),
        names={n: i for n, i in vocab.items() if i in control}
        | {name: token.id for name, token in files.added.items()},
    )


def _is_native_control(piece: Piece) -> bool:
    if piece.kind in (Kind.UNKNOWN, Kind.CONTROL):
        return True
    return piece.kind is Kind.USER_DEFINED and bool(_LOOKS_LIKE_CONTROL.fullmatch(piece.text))


def _control_ids(
    files: TokenizerFiles, native: Mapping[str, int], vocab: Mapping[str, int]
) -> frozenset[int]:
    markup = {token.id for token in files.added.values() if not token.is_control}
    control = {token.id for token in files.added.values() if token.is_control} | set(
        native.values()
    )
    control |= {vocab[name] for name in files.named.values() if name in vocab}
    return frozenset(control - markup)


def _surface(piece: Piece) -> bytes:
    if piece.kind is Kind.BYTE:
        return bytes([int(piece.text[3:5], 16)])
    return piece.text.replace(SPACE, " ").encode()


def _with_added(surfaces: list[bytes], added: Mapping[str, AddedToken]) -> tuple[bytes, ...]:
    size = max([len(surfaces), *(token.id + 1 for token in added.values())])
    surfaces = surfaces + [b""] * (size - len(surfaces))
    for token in added.values():
        surfaces[token.id] = token.content.encode("utf-8", "replace")
    return tuple(surfaces)


def _prefix_places(files: TokenizerFiles, model: SentencePieceModel) -> PrefixPlaces:
    if not model.add_dummy_prefix:
        return "never"
    if files.tokenizer_class == "LlamaTokenizer" and not files.flag("legacy", True):
        return "first" if files.flag("add_prefix_space", True) else "never"
    return "every"


def _bos_id(files: TokenizerFiles, vocab: Mapping[str, int]) -> int | None:
    bos = _named_id(files, vocab, "bos_token", "<s>" if files.has_model else "")
    if files.has_model:
        return bos if files.flag("add_bos_token", True) else None
    wanted = files.config.get("add_bos_token")
    if wanted is None:
        wanted = bos is not None and _starts_with(files.fast or {}, bos)
    return bos if wanted else None


def _starts_with(fast: Mapping[str, Any], bos: int) -> bool:
    """Whether the post-processor of a tokenizer.json puts this token before a text."""
    step = fast.get("post_processor")
    steps = step.get("processors", [step]) if isinstance(step, dict) else []
    for step in steps if isinstance(steps, list) else []:
        single = step.get("single") if isinstance(step, dict) else None
        first = single[0] if isinstance(single, list) and single else None
        name = first.get("SpecialToken", {}).get("id") if isinstance(first, dict) else None
        table = step.get("special_tokens", {}) if isinstance(step, dict) else {}
        entry = table.get(name) if isinstance(table, dict) and isinstance(name, str) else None
        if isinstance(entry, dict) and entry.get("ids") == [bos]:
            return True
    return False


def _named_id(
    files: TokenizerFiles, vocab: Mapping[str, int], name: str, default: str
) -> int | None:
    content = files.named.get(name, default)
    token = files.added.get(content)
    return token.id if token else vocab.get(content)


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
