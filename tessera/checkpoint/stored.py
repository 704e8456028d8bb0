"""Safetensors files as they lie on disk: a header that is believed only after it was checked.

    8 bytes length n | n bytes JSON {name: {dtype, shape, data_offsets}} | tensor bytes

The tensors must cover the data part exactly: no hole, no overlap, nothing behind the end; every
byte count must be shape times dtype. Python's integers do not overflow. No memory map: bytes are
read to where they go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tessera.checkpoint.values import local_file, parse_json, show
from tessera.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
STAGING_BYTES = 16 * 2**20  # the largest piece of a tensor that is held twice
_AGAIN = "The file is damaged or incomplete: download or copy it again."


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies."""

    name: str
    dtype: str  # a key of ITEM_BYTES
    shape: tuple[int, ...]
    file: str  # its name in the directory
    path: Path  # where that leads
    offset: int  # of its first byte in the file
    num_bytes: int


def read_header(directory: Path, name: str) -> dict[str, StoredTensor]:
    """Read and check the header of one safetensors file of the directory.

    Raises:
        CheckpointError: anything about the file is not as the format demands.
    """
    where = str(directory / name)
    path = local_file(directory, name)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(
                    f"{where}: {size:,} bytes cannot hold a header of {length:,} bytes"
                    f" (at most {MAX_HEADER_BYTES:,}). {_AGAIN}"
                )
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{where} cannot be read: {error.strerror}") from None
    header = parse_json(text, where)
    if not isinstance(header, dict):
        raise CheckpointError(f"{where}: the header is {show(header)}, not an object. {_AGAIN}")
    _check_metadata(header.pop("__metadata__", {}), where)
    data_start = 8 + length
    tensors = {
        key: _stored_tensor(key, value, path=path, data_start=data_start, where=where)
        for key, value in header.items()
    }
    _check_cover(tensors, data_start, size, where)
    return tensors


def _check_metadata(metadata: object, where: str) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise CheckpointError(f"{where}: __metadata__ must map texts to texts. {_AGAIN}")


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < 2**63
        for entry in value
    )


def _stored_tensor(
    key: str, value: Any, *, path: Path, data_start: int, where: str
) -> StoredTensor:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            f"{where}: the header entry {show(key)} needs dtype, shape and data_offsets. {_AGAIN}"
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{where}: {show(key)} has the unknown dtype {show(dtype)};"
            f" known are {', '.join(ITEM_BYTES)}."
        )
    if not _whole_numbers(shape) or len(shape) > 8:
        raise CheckpointError(
            f"{where}: {show(key)} has the impossible shape {show(shape)}. {_AGAIN}"
        )
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise CheckpointError(
            f"{where}: {show(key)} has the impossible offsets {show(offsets)}. {_AGAIN}"
        )
    num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != num_bytes:
        raise CheckpointError(
            f"{where}: {show(key)} of shape {show(shape)} and {dtype} takes {num_bytes:,} bytes,"
            f" its offsets {show(offsets)} do not. {_AGAIN}"
        )
    return StoredTensor(
        name=key,
        dtype=dtype,
        shape=tuple(shape),
        file=Path(where).name,
        path=path,
        offset=data_start + offsets[0],
        num_bytes=num_bytes,
    )


def _check_cover(tensors: dict[str, StoredTensor], start: int, size: int, where: str) -> None:
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        if tensor.offset != start:
            fault = (
                "overlaps another tensor" if tensor.offset < start else "leaves a hole before it"
            )
            raise CheckpointError(f"{where}: {show(tensor.name)} {fault}. {_AGAIN}")
        start += tensor.num_bytes
    if start != size:
        raise CheckpointError(
            f"{where}: the tensors end at byte {start:,}, the file at byte {size:,}. {_AGAIN}"
        )
