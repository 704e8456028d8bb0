"""Weights from a checkpoint directory into tensors that exist already.

Only `.safetensors` is ever read. Everything that can be wrong is found from the headers before
memory is taken (`plan_load`); then the bytes of one tensor after the other go straight to where
they stay (`fill`): peak memory is the model itself, plus one 16 MB buffer where the type changes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from tessera.checkpoint.names import TIED, Entry, ignored_reason, is_lora_key, tied_partner
from tessera.checkpoint.saving import save_checkpoint
from tessera.checkpoint.stored import (
    DTYPES,
    STAGING_BYTES,
    StoredTensor,
    read_header,
)
from tessera.checkpoint.values import (
    INDEX_NAME,
    MAX_INDEX_BYTES,
    WEIGHTS_NAME,
    read_json_object,
    show,
)
from tessera.errors import CheckpointError

__all__ = [
    "LoadPlan",
    "Progress",
    "fill",
    "load_weights",
    "plan_load",
    "read_headers",
    "save_checkpoint",
    "some",
]
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class LoadPlan:
    """Which stored tensor fills which of ours; checked against the files, nothing allocated."""

    directory: Path
    pairs: tuple[tuple[Entry, StoredTensor], ...]
    ignored: dict[str, str]  # released key -> reason

    @property
    def num_bytes(self) -> int:
        """Bytes to be read."""
        return sum(stored.num_bytes for _, stored in self.pairs)


def load_weights(
    parameters: Mapping[str, Tensor] | nn.Module,
    directory: Path | str,
    table: Iterable[Entry],
    *,
    progress: Progress | None = None,
) -> LoadPlan:
    """Fill named parameters in place, each in its own type and on its own device.

    Raises:
        CheckpointError: the directory does not hold what the table says.
    """
    plan = plan_load(directory, table)
    fill(parameters, plan, progress=progress)
    return plan


def read_headers(directory: Path | str) -> dict[str, StoredTensor]:
    """Read the headers of `model.safetensors`, or of all shards of the index.

    Raises:
        CheckpointError: nothing to read, or an index and shards that disagree.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(
            f"{show(str(directory))} is not a directory. Give a checkpoint directory."
        )
    if (directory / WEIGHTS_NAME).exists():
        return read_header(directory, WEIGHTS_NAME)
    if not (directory / INDEX_NAME).exists():
        raise CheckpointError(_no_weights(directory))
    index = read_json_object(directory, INDEX_NAME, limit=MAX_INDEX_BYTES)
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(
            f"{directory / INDEX_NAME}: weight_map must map names of tensors to files"
        )
    return _read_shards(directory, files)


def _read_shards(directory: Path, files: dict[str, object]) -> dict[str, StoredTensor]:
    for key, name in files.items():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{directory / INDEX_NAME}: {show(key)} is said to be in {show(name)};"
                " only .safetensors files are read"
            )
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(str(name) for name in set(files.values())):
        shard = read_header(directory, name)
        if twice := sorted(shard.keys() & tensors.keys()):
            raise CheckpointError(f"{directory}: {some(map(show, twice))} in more than one file")
        tensors.update(shard)
    faults = {
        "listed but in no file": [key for key in files if key not in tensors],
        "in another file than listed": [
            key for key, name in files.items() if key in tensors and tensors[key].file != name
        ],
        "in a file but not listed": [key for key in tensors if key not in files],
    }
    if found := [f"{some(map(show, keys))} {fault}" for fault, keys in faults.items() if keys]:
        raise CheckpointError(
            f"{directory / INDEX_NAME} and its files disagree: {'; '.join(found)}."
            " Download the directory again."
        )
    return tensors


def some(keys: Iterable[str]) -> str:
    """Return a count of tensors and the first three of them."""
    names = sorted(keys)
    more = ", ..." if len(names) > 3 else ""
    noun = "tensor" if len(names) == 1 else "tensors"
    return f"{len(names):,} {noun} ({', '.join(names[:3])}{more})"


def _no_weights(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())[:1000]
    pickles = [name for name in names if name.endswith((".bin", ".pth", ".pt", ".ckpt"))]
    if pickles:
        return (
            f"{directory} has its weights only as {show(pickles[0])}: such files can run code when"
            " opened, so Tessera reads .safetensors only. Take the repository's own safetensors"
            " files, or convert once with transformers' save_pretrained where you trust the file."
        )
    found = ", ".join(show(name) for name in names[:5]) or "nothing"
    return f"{directory} has neither {WEIGHTS_NAME} nor {INDEX_NAME}; it has {found}."


def plan_load(directory: Path | str, table: Iterable[Entry]) -> LoadPlan:
    """Match the stored tensors of a directory with a table, both completely.

    Raises:
        CheckpointError: missing, extra or mis-shaped tensors, with counts and the first few.
    """
    directory = Path(directory)
    stored = read_headers(directory)
    entries = {entry.released: entry for entry in table}
    if lora := [key for key in stored if is_lora_key(key)]:
        raise CheckpointError(
            f"{directory}: {some(map(show, lora))} of LoRA layers: saved with them"
            " inside. Merge them into the weights first (the published tools/merge_lora.py)."
        )
    ignored = {}
    for key in stored.keys() - entries.keys():
        if reason := ignored_reason(key, entries):
            ignored[key] = reason
    both = sorted(stored.keys() & entries.keys())
    faults = {
        "missing": [show(key) for key in entries.keys() - stored.keys()],
        "unexpected": [show(key) for key in stored.keys() - entries.keys() - ignored.keys()],
        "of another shape than config.json says": [
            f"{show(key)} {list(stored[key].shape)} instead of {list(entries[key].shape)}"
            for key in both
            if stored[key].shape != entries[key].shape
        ],
        "of a type that holds no weights": [
            f"{show(key)} {stored[key].dtype}" for key in both if stored[key].dtype not in DTYPES
        ],
    }
    if found := [f"{some(keys)} {fault}" for fault, keys in faults.items() if keys]:
        raise CheckpointError(
            f"{directory} does not hold the model of its config.json: {'; '.join(found)}."
            " Download it again, or check that config.json and the weights belong together."
        )
    pairs = sorted(((entries[key], stored[key]) for key in both), key=_place)
    plan = LoadPlan(directory, tuple(pairs), ignored)
    for key in (key for key, reason in ignored.items() if reason == TIED):
        _check_tied(directory, stored[key], stored[tied_partner(key)])
    return plan


def _place(pair: tuple[Entry, StoredTensor]) -> tuple[str, int]:
    return pair[1].file, pair[1].offset


def fill(
    parameters: Mapping[str, Tensor] | nn.Module,
    plan: LoadPlan,
    *,
    progress: Progress | None = None,
    filled: Callable[[str], Iterable[str]] | None = None,
) -> None:
    """Read every planned tensor into place.

    Args:
        parameters: by name, or the module that has them.
        plan: what `plan_load` gave.
        progress: called with (bytes done, bytes in all).
        filled: called with the name of each parameter that is complete; returns the names of those
            that are no longer needed, whose memory is then given back.

    Raises:
        CheckpointError: a file that changed or broke since the plan was made.
    """
    assert sys.byteorder == "little", "safetensors bytes are little-endian"
    named = parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters
    waiting = dict(named)
    rows_left, done = _check_targets(waiting, plan), 0
    for path, pairs in itertools.groupby(plan.pairs, key=lambda pair: pair[1].path):
        try:
            with path.open("rb", buffering=0) as file:
                for entry, stored in pairs:
                    _read_entry(file, waiting[entry.ours].detach(), entry, stored)
                    rows_left[entry.ours] -= entry.shape[0]
                    if filled is not None and not rows_left[entry.ours]:
                        for name in filled(entry.ours):
                            del waiting[name]
                    done += stored.num_bytes
                    if progress is not None:
                        progress(done, plan.num_bytes)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _read_entry(file: BinaryIO, target: Tensor, entry: Entry, stored: StoredTensor) -> None:
    file.seek(stored.offset)
    for start, stop in entry.spans:
        _read_into(file, target[start:stop], stored)


def _check_targets(parameters: Mapping[str, Tensor], plan: LoadPlan) -> dict[str, int]:
    """Return how many rows each parameter is going to get: all that it has."""
    rows = dict.fromkeys(parameters, 0)
    for entry, _ in plan.pairs:
        parameter = parameters[entry.ours]
        assert parameter.shape[1:] == entry.shape[1:], (entry, parameter.shape)
        assert parameter.is_contiguous(), entry
        rows[entry.ours] += sum(stop - start for start, stop in entry.spans)
    uneven = [name for name, count in rows.items() if count != parameters[name].shape[0]]
    assert not uneven, f"table and module disagree about {uneven[:5]}"
    return rows


def _read_into(file: BinaryIO, target: Tensor, stored: StoredTensor) -> None:
    flat, dtype = target.view(-1), DTYPES[stored.dtype]
    if flat.dtype == dtype and flat.device.type == "cpu":
        _read_exactly(file, _bytes_of(flat), stored)
        return
    step = STAGING_BYTES // dtype.itemsize
    staging = torch.empty(min(step, flat.numel()), dtype=dtype)
    for start in range(0, flat.numel(), step):
        part = staging[: min(step, flat.numel() - start)]
        _read_exactly(file, _bytes_of(part), stored)
        flat[start : start + step].copy_(part)


def _bytes_of(flat: Tensor) -> memoryview:
    return memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]


def _read_exactly(file: BinaryIO, buffer: memoryview, stored: StoredTensor) -> None:
    position = 0
    while position < len(buffer):
        count = file.readinto(buffer[position:])  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(
                f"{show(stored.file)} became shorter while it was read. Load it again."
            )
        position += count


def _check_tied(directory: Path, head: StoredTensor, embedding: StoredTensor) -> None:
    same = head.dtype == embedding.dtype and head.shape == embedding.shape
    if same:
        with head.path.open("rb") as first, embedding.path.open("rb") as second:
            first.seek(head.offset)
            second.seek(embedding.offset)
            for start in range(0, head.num_bytes, STAGING_BYTES):
                count = min(STAGING_BYTES, head.num_bytes - start)
                if first.read(count) != second.read(count):
                    same = False
                    break
    if not same:
        raise CheckpointError(
            f"{directory}: tie_word_embeddings is true, but {show(head.name)} differs from"
            f" {show(embedding.name)}. Set it to false in llm_config of config.json."
        )
