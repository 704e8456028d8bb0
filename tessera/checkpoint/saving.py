"""Write a checkpoint in the released layout, whole or not at all.

Everything goes into a temporary directory beside the target, is flushed to disk and renamed at the
end: a crash leaves what was there before. Where a directory is replaced, a kill between the two
renames leaves it beside, as .NAME.PID.old.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from tessera.checkpoint.names import Entry, config_to_released, weight_table
from tessera.checkpoint.stored import (
    DTYPE_NAMES,
    ITEM_BYTES,
    STAGING_BYTES,
)
from tessera.checkpoint.values import INDEX_NAME, WEIGHTS_NAME, local_file, read_json_object
from tessera.config import ModelConfig, VisionConfig
from tessera.errors import CheckpointError

TOKENIZER_FILES = (
    "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "generation_config.json",
    "preprocessor_config.json",
)  # fmt: skip
SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    model: nn.Module | Mapping[str, Tensor],
    config: ModelConfig | VisionConfig,
    directory: Path | str,
    *,
    tokenizer_files_from: Path | str | None = None,
    dtype: torch.dtype | None = None,
    shard_size: int = SHARD_BYTES,
    overwrite: bool = False,
) -> Path:
    """Write config.json, weights and tokenizer files; return the directory.

    Args:
        model: a model, or our named tensors.
        config: what it is.
        directory: must not exist or be empty, unless `overwrite`.
        tokenizer_files_from: a checkpoint whose tokenizer files, and further fields of
            config.json, are kept.
        dtype: type on disk; None keeps that of each tensor.
        shard_size: most bytes of one file.
        overwrite: replace the directory, after the new one is complete.

    Raises:
        CheckpointError: the directory is taken, the disk is full or cannot be written.
    """
    target = Path(directory)
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    entries = weight_table(config)
    _check_target(target, overwrite=overwrite)
    base = None
    if tokenizer_files_from is not None and (Path(tokenizer_files_from) / "config.json").is_file():
        base = read_json_object(Path(tokenizer_files_from), "config.json")
    released = config_to_released(config, base=base)
    kinds = {dtype or tensors[entry.ours].dtype for entry in entries}
    released["torch_dtype"] = str(max(kinds, key=lambda kind: kind.itemsize)).removeprefix("torch.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _check_space(temporary, entries, tensors, dtype)
        _write_text(
            temporary / "config.json", json.dumps(released, indent=2, ensure_ascii=False) + "\n"
        )
        if tokenizer_files_from is not None:
            _copy_files(Path(tokenizer_files_from), temporary)
        _write_shards(temporary, entries, tensors, dtype=dtype, shard_size=shard_size)
        sync_directory(temporary)
        _put_in_place(temporary, target)
    except OSError as error:
        raise CheckpointError(
            f"{target} could not be written: {error.strerror}. What was there before is unchanged."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _check_target(target: Path, *, overwrite: bool) -> None:
    taken = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if taken and not (overwrite and target.is_dir()):
        raise CheckpointError(
            f"{target} exists already. Choose another directory or remove it first."
        )


def _check_space(
    place: Path, entries: Iterable[Entry], tensors: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    needed = sum(_num_bytes(entry, tensors, dtype) for entry in entries)
    free = shutil.disk_usage(place).free
    if needed + 50_000_000 > free:
        raise CheckpointError(
            f"{place.parent} has {free / 1e9:.1f} GB free, the checkpoint takes"
            f" {needed / 1e9:.1f} GB. Make room or choose another directory."
        )


def _num_bytes(entry: Entry, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    return _rows(entry) * _row_bytes(entry, tensors, dtype)


def _rows(entry: Entry) -> int:
    return sum(stop - start for start, stop in entry.spans)


def _row_bytes(entry: Entry, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    tensor = tensors[entry.ours]
    return tensor[0].numel() * (dtype or tensor.dtype).itemsize


def _write_shards(
    place: Path,
    entries: Iterable[Entry],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None,
    shard_size: int,
) -> None:
    shards: list[list[Entry]] = [[]]
    size = total = 0
    for entry in sorted(entries, key=lambda entry: entry.released):
        num_bytes = _num_bytes(entry, tensors, dtype)
        if shards[-1] and size + num_bytes > shard_size:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += num_bytes
        total += num_bytes
    if len(shards) == 1:
        _write_file(place / WEIGHTS_NAME, shards[0], tensors, dtype)
        return
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(place / name, shard, tensors, dtype)
        files.update((entry.released, name) for entry in shard)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    _write_text(place / INDEX_NAME, json.dumps(index, indent=2, sort_keys=True) + "\n")


def _write_file(
    path: Path, entries: list[Entry], tensors: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    # Larger item types first keep every tensor aligned, as the format's own writer does.
    def kind(entry: Entry) -> str:
        return DTYPE_NAMES[dtype or tensors[entry.ours].dtype]

    entries = sorted(entries, key=lambda entry: (-ITEM_BYTES[kind(entry)], entry.released))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + _num_bytes(entry, tensors, dtype)
        header[entry.released] = {
            "dtype": kind(entry), "shape": list(entry.shape), "data_offsets": [offset, end],
        }  # fmt: skip
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            for start, stop in entry.spans:
                _write_rows(file, tensors[entry.ours].detach()[start:stop], dtype)
        file.flush()
        os.fsync(file.fileno())


def _write_rows(file: BinaryIO, tensor: Tensor, dtype: torch.dtype | None) -> None:
    flat = tensor.reshape(-1)
    step = STAGING_BYTES // flat.dtype.itemsize
    for start in range(0, flat.numel(), step):
        part = flat[start : start + step].to(device="cpu", dtype=dtype or flat.dtype).contiguous()
        file.write(part.view(torch.uint8).numpy().data)


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _copy_files(source: Path, place: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            with local_file(source, name).open("rb") as old, (place / name).open("wb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                os.fsync(new.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's own entries to disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows cannot open a directory
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put_in_place(temporary: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)
