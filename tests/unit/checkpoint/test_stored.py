import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from tessera.checkpoint.stored import read_header
from tessera.errors import CheckpointError


def write(directory, header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (directory / "m.safetensors").write_bytes(struct.pack("<Q", size) + text + data)


def tensor(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_a_file_of_the_formats_own_library_is_read(tmp_path):
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.ones(4, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "half": torch.zeros(3, dtype=torch.float16),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path, "m.safetensors")
    assert {key: stored.shape for key, stored in header.items()} == {
        key: tuple(value.shape) for key, value in tensors.items()
    }
    assert header["b"].dtype == "BF16"
    raw = (tmp_path / "m.safetensors").read_bytes()
    a = header["a"]
    assert raw[a.offset : a.offset + a.num_bytes] == tensors["a"].numpy().tobytes()


BAD = [
    ("hole", {"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, 12, "leaves a hole"),
    ("hole at start", {"a": tensor([1], 4, 8)}, 8, "leaves a hole"),
    ("overlap", {"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, 8, "overlaps"),
    ("same place", {"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, 4, "overlaps"),
    ("beyond the end", {"a": tensor([2], 0, 8)}, 4, "end at byte"),
    ("data behind", {"a": tensor([1], 0, 4)}, 9, "end at byte"),
    ("backwards", {"a": tensor([1], 4, 0)}, 4, "takes 4 bytes"),
    ("shape lies", {"a": tensor([3], 0, 4)}, 4, "takes 12 bytes"),
    ("overflow", {"a": tensor([2**62, 4, 4], 0, 0)}, 0, "takes"),
    ("overflow to zero", {"a": tensor([2**32, 2**32], 0, 0, "U8")}, 0, "takes"),
    ("negative shape", {"a": tensor([-1], 0, 4)}, 4, "impossible shape"),
    ("float shape", {"a": tensor([1.0], 0, 4)}, 4, "impossible shape"),
    ("boolean shape", {"a": tensor([True], 0, 4)}, 4, "impossible shape"),
    ("text shape", {"a": tensor("1", 0, 4)}, 4, "impossible shape"),
    ("many dimensions", {"a": tensor([1] * 9, 0, 4)}, 4, "impossible shape"),
    ("negative offset", {"a": tensor([1], -4, 0)}, 4, "impossible offsets"),
    ("huge offset", {"a": tensor([1], 2**64, 2**64 + 4)}, 4, "impossible offsets"),
    ("three offsets", {"a": {**tensor([1], 0, 4), "data_offsets": [0, 4, 4]}}, 4, "offsets"),
    ("unknown dtype", {"a": tensor([1], 0, 4, "F12")}, 4, "unknown dtype 'F12'"),
    ("dtype no text", {"a": tensor([1], 0, 4, ["F32"])}, 4, "unknown dtype"),
    ("extra field", {"a": {**tensor([1], 0, 4), "code": 1}}, 4, "needs dtype"),
    ("no object", {"a": 3}, 0, "needs dtype"),
    ("no header object", [1], 0, "not an object"),
    ("metadata of numbers", {"__metadata__": {"a": 1}}, 0, "__metadata__"),
    ("metadata no object", {"__metadata__": "x"}, 0, "__metadata__"),
    ("duplicate keys", b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8",'
     b'"shape":[1],"data_offsets":[0,1]}}', 1, "twice"),
    ("no JSON", b"{nope", 0, "not valid JSON"),
    ("no text", b"\xff\xfe", 0, "not UTF-8"),
    ("deep", b"[" * 100_000, 0, "nested"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "size", "reason"), [row[1:] for row in BAD])
def test_a_header_that_lies_is_refused(tmp_path, header, size, reason):
    write(tmp_path, header, b"\0" * size)
    with pytest.raises(CheckpointError, match=reason) as error:
        read_header(tmp_path, "m.safetensors")
    assert "m.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 100_000_001, 3, 10**6])
def test_a_header_length_that_lies_is_refused(tmp_path, length):
    write(tmp_path, {}, length=length)
    with pytest.raises(CheckpointError):
        read_header(tmp_path, "m.safetensors")


def test_a_header_beyond_the_formats_limit_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(path, 200_000_000)  # takes no disk
    with pytest.raises(CheckpointError, match="at most 100,000,000"):
        read_header(tmp_path, "m.safetensors")


def test_every_truncation_of_a_file_is_found(tmp_path):
    save_file({"a": torch.ones(3, 2), "b": torch.ones(5)}, tmp_path / "m.safetensors")
    raw = (tmp_path / "m.safetensors").read_bytes()
    for size in range(len(raw)):
        (tmp_path / "m.safetensors").write_bytes(raw[:size])
        with pytest.raises(CheckpointError):
            read_header(tmp_path, "m.safetensors")
