"""The small files beside a vocabulary: which tokens were added, and by which rules.

Every file is checked and none is executed. `tokenizer_config.json` (`added_tokens_decoder`),
`tokenizer.json` (`added_tokens`), `added_tokens.json` and `special_tokens_map.json` may repeat each
other, not contradict each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tessera.errors import CheckpointError

PrefixPlaces = Literal["every", "first", "never"]  # runs of text that get a leading blank
MARKUP = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
_MAX_JSON_BYTES = 64 * 2**20
MAX_ID = 2_000_000  # ids; ten times the largest vocabulary in use
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, kw_only=True)
class AddedToken:
    """A token beside the trained vocabulary."""

    id: int
    content: str
    lstrip: bool = False  # swallows blanks to its left
    rstrip: bool = False  # swallows blanks to its right
    special: bool = True

    @property
    def is_control(self) -> bool:
        """Whether text may not produce it: all but grounding markup and plain runs of blanks."""
        if self.content in MARKUP:
            return False
        return self.special or bool(self.content.strip())


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What a directory says about its tokenizer."""

    directory: Path
    config: dict[str, Any]
    added: dict[str, AddedToken]
    named: dict[str, str]  # bos_token, eos_token, unk_token, pad_token -> content
    fast: dict[str, Any] | None  # tokenizer.json
    has_model: bool  # tokenizer.model

    @property
    def tokenizer_class(self) -> str:
        """The class of the reference that the directory names, without a `Fast` ending."""
        name = self.config.get("tokenizer_class")
        return name.removesuffix("Fast") if isinstance(name, str) else ""

    def flag(self, name: str, default: bool) -> bool:
        """Return a yes-or-no setting; null counts as not set."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise CheckpointError(
                f"{self.directory / 'tokenizer_config.json'} has {name} = {value!r:.60}; "
                "it is true or false"
            )
        return value


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read what a directory holds.

    Raises:
        CheckpointError: when there is no tokenizer, or a file is damaged or contradicts another.
    """
    has_model = (directory / "tokenizer.model").is_file()
    fast = _read_object(directory / "tokenizer.json")
    if not has_model and fast is None:
        raise CheckpointError(
            f"{directory} holds neither tokenizer.model nor tokenizer.json; "
            "put the tokenizer of the model there"
        )
    config = _read_object(directory / "tokenizer_config.json") or {}
    special_map = _read_object(directory / "special_tokens_map.json") or {}
    added = _Added(directory)
    decoder = config.get("added_tokens_decoder") or {}
    added.require(isinstance(decoder, dict), "tokenizer_config.json", "added_tokens_decoder")
    for key, entry in decoder.items():
        added.put(key, entry, "tokenizer_config.json")
    entries = (fast or {}).get("added_tokens") or []
    added.require(isinstance(entries, list), "tokenizer.json", "added_tokens")
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        added.put(key, entry, "tokenizer.json")
    rules = _rules(special_map, config)
    for content, key in (_read_object(directory / "added_tokens.json") or {}).items():
        added.put(key, {**rules.get(content, {}), "content": content}, "added_tokens.json")
    return TokenizerFiles(
        directory=directory,
        config=config,
        added=added.tokens,
        named=_named(special_map, config),
        fast=fast,
        has_model=has_model,
    )


class _Added:
    """Collects added tokens and refuses contradictions."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokens: dict[str, AddedToken] = {}
        self._contents: dict[int, str] = {}

    def require(self, condition: bool, file: str, what: str) -> None:
        if not condition:
            raise CheckpointError(
                f"{self.directory / file}: {what} is malformed; fetch the file again"
            )

    def put(self, key: object, entry: object, file: str) -> None:
        text = key if isinstance(key, int) and not isinstance(key, bool) else str(key)
        self.require(
            str(text).isascii() and str(text).isdigit(), file, f"added token id {key!r:.40}"
        )
        self.require(
            len(str(text)) <= 8 and int(text) < MAX_ID, file, f"added token id {key!r:.40}"
        )
        index = int(text)
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(content, str) or not content:
            self.require(False, file, f"added token {index}")
            return
        self.require(len(content) <= 256, file, f"added token {index}")
        for rule in ("lstrip", "rstrip", "special"):
            self.require(isinstance(entry.get(rule, False), bool), file, f"added token {index}")
        known = self.tokens.get(content)
        if (known and known.id != index) or self._contents.get(index, content) != content:
            other = f"{content!r:.60} as {known.id}" if known else f"{self._contents[index]!r:.60}"
            raise CheckpointError(
                f"{self.directory / file} gives {content!r:.60} the id {index}, "
                f"but another entry has {other}; keep one"
            )
        if known is None:
            self._contents[index] = content
            self.tokens[content] = AddedToken(
                id=index,
                content=content,
                lstrip=entry.get("lstrip", False),
                rstrip=entry.get("rstrip", False),
                special=entry.get("special", True),
            )


def _rules(*sources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Find strip rules of tokens that old directories write only into the special tokens map."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        listed = source.get("additional_special_tokens")
        values = [source.get(name) for name in _NAMED] + (
            listed if isinstance(listed, list) else []
        )
        for value in values:
            if isinstance(value, dict) and isinstance(value.get("content"), str):
                found.setdefault(
                    value["content"], {k: value.get(k, False) for k in ("lstrip", "rstrip")}
                )
    return found


def _named(*sources: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        for name in _NAMED:
            value = source.get(name)
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str) and content:
                found.setdefault(name, content)
    return found


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(
                f"{path} has more than {_MAX_JSON_BYTES} bytes; no tokenizer needs that"
            )
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check the file") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path} is not valid JSON; fetch the file again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, not an object; fetch it again")
    return value
