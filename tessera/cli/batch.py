"""What `tessera run` reads and writes: items in, one JSON line each out.

A line is appended with one write, so that a killed run leaves at most one partial line, which the
next run cuts off. What a line answers is recognised by its id, pictures and question.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tessera.cli.pictures import PICTURE_SUFFIXES, is_address
from tessera.errors import UserError

if TYPE_CHECKING:
    from types import TracebackType

    from tessera.assistant import Answer
    from tessera.processing.conversation import Conversation

_MAX_LINE = 1 << 20  # bytes of one JSON line
_NOT_IMAGE = {"images", "img", "picture", "pictures", "image_path", "file", "path", "video"}
_LINE_START = b'{"id": '  # of every line written here
_AS_ESCAPE = "backslashreplace"  # a file name that is not UTF-8 becomes \\udc.., valid in JSON


@dataclass(frozen=True)
class Item:
    """One question about pictures; `fault` says why it cannot be asked."""

    id: str
    images: tuple[str, ...]  # as they are written in the source
    question: str
    root: Path  # what relative pictures are relative to
    fault: str | None = None

    @property
    def key(self) -> tuple[str, tuple[str, ...], str]:
        """What tells items apart."""
        return (self.id, self.images, self.question)

    def conversation(self, system: str | None) -> Conversation:
        """Open the pictures and put the question.

        Raises:
            UserError: a picture cannot be opened, or the item is faulty.
        """
        from tessera.processing.conversation import Conversation
        from tessera.processing.image import open_image

        if self.fault is not None:
            raise UserError(self.fault)
        pictures = [
            open_image(image if is_address(image) else self.root / image, name=image)
            for image in self.images
        ]
        return Conversation.user(self.question, pictures, system=system)

    def record(self) -> dict[str, Any]:
        """Return what every output line repeats."""
        image = self.images[0] if len(self.images) == 1 else list(self.images)
        return {"id": self.id, "image": image, "question": self.question}


def read_items(source: Path, ask: str | None) -> list[Item]:
    """List what is to be answered.

    Raises:
        UserError: the source does not exist or holds nothing, or there is no question.
    """
    if source.is_dir():
        if not ask:
            raise UserError(f"{source} is a folder: give the question with --ask")
        items = [Item(name, (name,), ask, source) for name in sorted(_picture_names(source))]
        if not items:
            raise UserError(f"{source} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
        return items
    if not source.is_file():
        raise UserError(f"{source} does not exist: give a folder of pictures or a JSONL file")
    if source.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UserError(f"{source} is neither a folder nor a .jsonl file")
    return _read_jsonl(source, ask)


def _picture_names(folder: Path) -> list[str]:
    return [name for name in _file_names(folder) if _is_named_as_picture(name)]


def names_left_out(source: Path) -> list[str]:
    """List the files of a folder that nothing is asked about, hidden ones aside."""
    if not source.is_dir():
        return []
    return sorted(name for name in _file_names(source) if not _is_named_as_picture(name))


def _is_named_as_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def _file_names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if not path.is_dir() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _read_jsonl(source: Path, ask: str | None) -> list[Item]:
    items = []
    with source.open("rb") as handle:
        for number, line in enumerate(iter(lambda: handle.readline(_MAX_LINE), b""), start=1):
            where = f"{source.name}:{number}"
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                raise UserError(f"{source}:{number} is longer than 1 MiB: shorten the line")
            if line.strip():
                items.append(_read_line(line, where, source.parent, ask))
    if not items:
        raise UserError(f"{source} holds no lines")
    return items


def _read_line(line: bytes, where: str, root: Path, ask: str | None) -> Item:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Item(where, (), ask or "", root, f"{where} is not JSON")
    if not isinstance(row, dict):
        return Item(where, (), ask or "", root, f"{where} is not a JSON object")
    given = row.get("image", [])
    images = [given] if isinstance(given, str) else given
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return Item(where, (), ask or "", root, f"{where}: image must be a path or a list of paths")
    name = where if row.get("id") is None else str(row["id"])
    misnamed = sorted(_NOT_IMAGE & row.keys())
    if misnamed and "image" not in row:
        fault = f"{where} has {misnamed[0]!r}, which is not read: pictures belong under 'image'"
        return Item(name, (), ask or "", root, fault)
    question = row.get("question") or _first_human(row) or ask
    if not isinstance(question, str):
        fault = f"{where} has no question: add one, or give --ask"
        return Item(name, tuple(images), "", root, fault)
    if not images and "image" in row:
        return Item(name, (), question, root, f"{where}: image is empty")
    return Item(name, tuple(images), question, root)


def _first_human(row: dict[str, Any]) -> str | None:
    """Return the first question of a line in the published training format."""
    turns = row.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") == "human":
            value = turn.get("value")
            return value if isinstance(value, str) else None
    return None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _may_begin_a_line(tail: bytes) -> bool:
    """Tell whether the end of a file may be what a killed run left, and not somebody's text."""
    return tail.startswith(_LINE_START) or _LINE_START.startswith(tail)


class Results:
    """The output file: what it holds already, and appending to it."""

    def __init__(self, path: Path, *, model: str, retry_errors: bool) -> None:
        self.path = path
        self.model = model
        self.num_answered = 0
        self.num_errors = 0
        self._done: set[tuple[str, tuple[str, ...], str]] = set()
        self._file: BinaryIO | None = None
        self._is_ours = False  # made by this run: only then may it be removed again
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a .jsonl file with -o")
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not an ordinary file: name a .jsonl file with -o")
        if str(path) == "-":
            raise UserError("answers cannot go to stdout (-): name a .jsonl file with -o")
        if path.exists():
            self._read_done(retry_errors)

    def _read_done(self, retry_errors: bool) -> None:
        """Note what is answered; cut off a line that a killed run left unfinished."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror})") from None
        complete = content.rfind(b"\n") + 1
        is_ended = not _is_json(content[complete:])
        if not is_ended:  # whole, only its line feed was lost
            complete = len(content)
        elif not _may_begin_a_line(content[complete:]):
            raise self._foreign(content.count(b"\n") + 1)
        for number, line in enumerate(content[:complete].splitlines(), start=1):
            row = self._parse(line, number)
            if "error" in row and retry_errors:
                continue
            image = row.get("image", "")
            images = (image,) if isinstance(image, str) else tuple(image)
            self._done.add((str(row.get("id")), images, str(row.get("question"))))
        try:
            with self.path.open("rb+") as handle:
                handle.truncate(complete)
                handle.seek(complete)
                handle.write(b"" if is_ended else b"\n")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror})") from None

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or "question" not in row:
            raise self._foreign(number)
        if row.get("model") != self.model:
            raise UserError(
                f"{self.path}:{number} is by the model {row.get('model')!r}, not {self.model!r}: "
                "choose another file with -o"
            )
        return row

    def _foreign(self, number: int) -> UserError:
        return UserError(
            f"{self.path}:{number} is not a line of `tessera run`: choose another file with -o"
        )

    def __enter__(self) -> Results:
        """Open the file for appending, making it and its folder if need be."""
        self._is_ours = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror})") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; one that was made here and got nothing is not left behind."""
        assert self._file is not None
        self._file.close()
        if self._is_ours and self.path.is_file() and self.path.stat().st_size == 0:
            self.path.unlink(missing_ok=True)

    def has(self, item: Item) -> bool:
        """Tell whether an item is answered already."""
        return item.key in self._done

    def add_answer(self, item: Item, answer: Answer) -> None:
        """Append an answer."""
        self.num_answered += 1
        self._append(
            item.record()
            | {
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "tiles": answer.timing.tiles,
                "answer_tokens": len(answer.token_ids),
                "model": self.model,
            }
        )

    def add_error(self, item: Item, message: str) -> None:
        """Append what went wrong."""
        self.num_errors += 1
        self._append(item.record() | {"error": message, "model": self.model})

    def _append(self, row: dict[str, Any]) -> None:
        assert self._file is not None, "entered"
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", _AS_ESCAPE)
        try:
            self._file.write(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror})") from None
