"""Untrusted JSON: bounded reading, and typed access to the fields of an object.

Every value of a checkpoint's JSON files passes through here. Booleans are not integers, strings are
not numbers, NaN and infinity do not exist, duplicate keys are refused, sizes have limits.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from tessera.errors import CheckpointError, ConfigError, nearest

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
MAX_JSON_BYTES = 10_000_000
MAX_INDEX_BYTES = 100_000_000

T = TypeVar("T", bound=str)


def show(value: object) -> str:
    """Return a value of a foreign file as one short printable line."""
    if isinstance(value, dict):
        return f"an object of {len(value)} entries"
    if isinstance(value, list) and len(value) > 4:
        return f"a list of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 80 else text[:60] + "..." + text[-10:]


def hint(value: object, valid: Iterable[str]) -> str:
    """Return the nearest valid name as a question, for names short enough to be compared."""
    return nearest(value, valid) if isinstance(value, str) and len(value) <= 200 else ""


def local_file(directory: Path, name: str) -> Path:
    """Return a regular file of the directory; a link may lead only to the hub cache's own blobs.

    Raises:
        CheckpointError: no plain name, nothing there, or a link out of the directory.
    """
    if not name or name in (".", "..") or any(mark in name for mark in "/\\:\0"):
        raise CheckpointError(
            f"{directory}: {show(name)} is not a plain file name, so it is not opened."
            " Download the checkpoint again from a source you trust."
        )
    path = directory / name
    try:
        home, target = directory.resolve(strict=True), path.resolve(strict=True)
        is_file = stat.S_ISREG(target.stat().st_mode)
    except (OSError, RuntimeError, ValueError):
        raise CheckpointError(f"{directory}: there is no file {show(name)}") from None
    if target.parent != home and not _is_hub_blob(home, target):
        raise CheckpointError(
            f"{directory}: {show(name)} is a link out of the directory, so it is not opened."
            " Put a copy of the file in its place if you trust it."
        )
    if not is_file:
        raise CheckpointError(f"{directory}: {show(name)} is not a regular file")
    return target


def _is_hub_blob(home: Path, target: Path) -> bool:
    """Tell whether a link of <cache>/models--*/snapshots/<commit> ends in the cache's own blobs."""
    repository = home.parent.parent
    if home.parent.name != "snapshots" or not repository.name.startswith("models--"):
        return False
    shared = repository.parent / "blobs"  # <cache>/blobs/<two digits>/<hash>, since hub 2
    return target.parent == repository / "blobs" or target.parent.parent == shared


def parse_json(text: bytes, where: str) -> Any:
    """Parse UTF-8 JSON; refuse duplicate keys, NaN, infinity and absurd depth.

    Raises:
        CheckpointError: the text is not such JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key occurs twice")
        return result

    def refuse(_: str) -> float:
        raise ValueError("NaN and Infinity are not JSON")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        reason = f"not valid JSON at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        known = str(error) if "twice" in str(error) or "NaN" in str(error) else ""
        reason = known or "it holds a number with thousands of digits"
    raise CheckpointError(f"{where} is damaged: {reason}. Download or copy it again.")


def read_json_object(directory: Path, name: str, *, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read one JSON object of a checkpoint directory, at most `limit` bytes of it.

    Raises:
        CheckpointError: the file is missing, too large or not a JSON object.
    """
    path = local_file(directory, name)
    where = str(directory / name)
    try:
        with path.open("rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"{where} cannot be read: {error.strerror}") from None
    if len(text) > limit:
        raise CheckpointError(f"{where} is larger than {limit:,} bytes, so it is not read")
    data = parse_json(text, where)
    if not isinstance(data, dict):
        raise CheckpointError(f"{where} must hold a JSON object, not {show(data)}")
    return data


class Fields:
    """The fields of one object of a config, read with type, range and default.

    JSON null counts as absent. Which fields were read is remembered, see `unread`.
    """

    def __init__(self, data: object, *, where: str, prefix: str = "") -> None:
        self.where, self.prefix = where, prefix
        if not isinstance(data, dict):
            raise ConfigError(
                f"{where}: {prefix.rstrip('.') or 'the config'} must be an object, not {show(data)}"
            )
        self.data: dict[str, Any] = data
        self._read: set[str] = set()

    def fail(self, name: str, wanted: str) -> ConfigError:
        """Return the error for a field: key, value, what it must be."""
        value = show(self.data.get(name))
        return ConfigError(f"{self.where}: {self.prefix}{name} is {value}, but must be {wanted}.")

    def not_among(self, name: str, value: object, valid: Iterable[str]) -> ConfigError:
        """Return the error for a value outside a closed set, with the nearest one."""
        choices = list(valid)
        error = self.fail(name, "one of " + ", ".join(repr(choice) for choice in choices))
        return ConfigError(str(error) + hint(value, choices))

    def raw(self, name: str) -> Any:
        """Return a field unchecked, None if it is absent."""
        self._read.add(name)
        return self.data.get(name)

    def integer(self, name: str, default: int, *, low: int = 1, high: int) -> int:
        """Return a whole number from low to high."""
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(name, f"a whole number from {low:,} to {high:,}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a finite number from low to high."""
        value = self.raw(name)
        if value is None:
            return default
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # NaN is in no range
            raise self.fail(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, name: str, *, low: float, high: float, most: int) -> tuple[float, ...]:
        """Return a list of finite numbers, empty if absent."""
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most:
            raise self.fail(name, f"a list of at most {most} numbers")
        for entry in value:
            if isinstance(entry, bool) or not isinstance(entry, (int, float)):
                raise self.fail(name, "a list of numbers")
            if not low <= entry <= high:
                raise self.fail(name, f"a list of numbers from {low:g} to {high:g}")
        return tuple(float(entry) for entry in value)

    def boolean(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(name, "true or false")
        return value

    def text(self, name: str, *, longest: int) -> str | None:
        """Return a string of bounded length, None if absent."""
        value = self.raw(name)
        if value is not None and (not isinstance(value, str) or len(value) > longest):
            raise self.fail(name, f"a text of at most {longest:,} characters")
        return value

    def choice(self, name: str, default: T, valid: Iterable[T]) -> T:
        """Return one of a closed set of strings."""
        value, choices = self.raw(name), list(valid)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise self.not_among(name, value, choices)
        return next(choice for choice in choices if choice == value)

    def section(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self.raw(name), where=self.where, prefix=f"{self.prefix}{name}.")

    def unread(self, harmless: Iterable[str]) -> list[str]:
        """Return the full names of fields that nobody read, without those of `harmless`."""
        return [self.prefix + name for name in self.data if name not in self._read.union(harmless)]
