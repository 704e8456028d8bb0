import errno
import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tessera.checkpoint import saving
from tessera.checkpoint.files import load_weights, save_checkpoint
from tessera.checkpoint.loader import read_config
from tessera.checkpoint.names import weight_table
from tessera.errors import CheckpointError
from tests.unit.checkpoint.tiny import FAMILIES, empty_like, random_config, random_parameters


@pytest.fixture
def config():
    return random_config("qwen2", 2)


@pytest.fixture
def parameters(config):
    return random_parameters(weight_table(config), seed=5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shard_size", [1, 3000, 10**9])
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path, family, shard_size):
    config = random_config(family, 4)
    table = weight_table(config)
    parameters = random_parameters(table, seed=4)
    save_checkpoint(parameters, config, tmp_path / "out", shard_size=shard_size)
    assert read_config(tmp_path / "out") == config
    loaded = empty_like(parameters)
    load_weights(loaded, tmp_path / "out", table)
    assert all(torch.equal(loaded[name], parameters[name]) for name in parameters)
    shards = list((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) == {1: len(table), 10**9: 1}.get(shard_size, len(shards))
    assert os.listdir(tmp_path) == ["out"]


def test_the_formats_own_library_reads_the_files_and_the_type_is_as_asked(
    tmp_path, config, parameters
):
    save_checkpoint(parameters, config, tmp_path / "out", dtype=torch.bfloat16, shard_size=2000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    total = 0
    for name in set(index["weight_map"].values()):
        tensors = load_file(tmp_path / "out" / name)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        total += sum(2 * tensor.numel() for tensor in tensors.values())
    assert index["metadata"]["total_size"] == total
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_mixed_types_stay_aligned(tmp_path, config, parameters):
    parameters["projector.norm.weight"] = parameters["projector.norm.weight"].to(torch.bfloat16)
    save_checkpoint(parameters, config, tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert stored["mlp1.0.weight"].dtype == torch.bfloat16
    assert stored["mlp1.0.bias"].dtype == torch.float32


def test_tokenizer_files_are_copied_and_nothing_that_can_run(tmp_path, config, parameters):
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.model").write_bytes(b"spm")
    (source / "tokenizer_config.json").write_text("{}")
    (source / "tokenization_internlm2.py").write_text("import os")
    (source / "pytorch_model.bin").write_bytes(b"\x80")
    (source / "config.json").write_text(json.dumps({"llm_config": {"eos_token_id": 92542}}))
    save_checkpoint(parameters, config, tmp_path / "out", tokenizer_files_from=source)
    assert sorted(os.listdir(tmp_path / "out")) == [
        "config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json",
    ]  # fmt: skip
    saved = json.loads((tmp_path / "out" / "config.json").read_text())
    assert saved["llm_config"]["eos_token_id"] == 92542
    assert read_config(tmp_path / "out") == config


def test_an_existing_directory_is_replaced_only_when_asked(tmp_path, config, parameters):
    (tmp_path / "out").mkdir()
    save_checkpoint(parameters, config, tmp_path / "out")  # empty: taken
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(parameters, config, tmp_path / "out")
    changed = replace(config, template="changed")
    save_checkpoint(parameters, changed, tmp_path / "out", overwrite=True)
    assert read_config(tmp_path / "out") == changed
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "second rename"])
def test_a_fault_at_any_step_leaves_what_was_there(
    tmp_path, config, parameters, monkeypatch, call, code
):
    save_checkpoint(parameters, config, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    calls = {"count": 0}

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr(saving, "_write_rows", fail)
    elif call == "fsync":
        monkeypatch.setattr(saving.os, "fsync", fail)
    else:
        original = saving.Path.rename

        def rename(self, target):
            calls["count"] += 1
            if calls["count"] == (1 if call == "rename" else 2):
                fail()
            return original(self, target)

        monkeypatch.setattr(saving.Path, "rename", rename)
    with pytest.raises(CheckpointError, match="could not be written.*unchanged"):
        save_checkpoint(
            parameters, replace(config, template="new"), tmp_path / "out", overwrite=True
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, config, parameters, monkeypatch):
    usage = saving.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match="GB free"):
        save_checkpoint(parameters, config, tmp_path / "out")
    assert os.listdir(tmp_path) == []
