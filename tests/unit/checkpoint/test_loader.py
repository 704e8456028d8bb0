import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tessera.checkpoint import loader
from tessera.checkpoint.loader import load_model, read_chat_config, read_config
from tessera.checkpoint.names import config_to_released, weight_table
from tessera.config import VisionConfig
from tessera.errors import CheckpointError, ConfigError
from tessera.models.chat import ChatModel
from tessera.models.vision import VisionEncoder
from tests.unit.checkpoint.tiny import FAMILIES, random_config, write_directory


def test_every_golden_model_loads_with_all_keys_matched(golden):
    directories = sorted(golden.glob("chat-*"))
    assert len(directories) == 4
    for directory in directories:
        config = read_chat_config(directory)
        model = load_model(directory, lambda config=config: ChatModel(config), config)
        stored = load_file(directory / "model.safetensors")
        parameters = dict(model.named_parameters())
        assert sum(tensor.numel() for tensor in stored.values()) == sum(
            parameter.numel() for parameter in parameters.values()
        )
        for entry in weight_table(config):
            ours = parameters[entry.ours]
            rows = torch.cat([ours[start:stop] for start, stop in entry.spans])
            assert torch.equal(rows, stored[entry.released]), entry.released
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_tables_and_modules_agree_for_random_configs(tmp_path, family, seed):
    config = random_config(family, seed)
    original = write_directory(tmp_path, config)
    model = load_model(tmp_path, lambda: ChatModel(config), config, dtype=torch.bfloat16)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == original.keys()
    for name, parameter in parameters.items():
        assert torch.equal(parameter, original[name].to(torch.bfloat16))


def test_a_stand_alone_encoder_loads(tmp_path):
    config = random_config("llama", 2).vision
    original = write_directory(tmp_path, config)
    found = read_config(tmp_path)
    assert isinstance(found, VisionConfig)
    model = load_model(tmp_path, lambda: VisionEncoder(found), found)
    assert dict(model.named_parameters()).keys() == original.keys()
    with pytest.raises(ConfigError, match="vision encoder alone"):
        read_chat_config(tmp_path)


def test_a_config_that_promises_giants_fails_before_memory_is_taken(tmp_path):
    config = random_config("llama", 2)
    write_directory(tmp_path, config)
    giant = replace(
        config, language=replace(config.language, vocab_size=4_000_000, mlp_width=1_000_000)
    )
    (tmp_path / "config.json").write_text(json.dumps(config_to_released(giant)))

    def never():
        raise AssertionError("built a module for files that do not fit")

    with pytest.raises(CheckpointError, match="of another shape"):
        load_model(tmp_path, never, read_chat_config(tmp_path))


def test_a_misspelled_key_is_told_and_changes_nothing(tmp_path, caplog):
    config = random_config("llama", 2)
    write_directory(tmp_path, config)
    assert read_config(tmp_path) == config
    assert not caplog.records
    data = config_to_released(config)
    data["psversion"] = "v1"
    data["llm_config"]["rope_tehta"] = 3
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert read_config(tmp_path) == config
    assert "'psversion', 'llm_config.rope_tehta' unknown here" in caplog.text


def test_a_missing_config_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no file 'config.json'"):
        read_config(tmp_path)


def test_too_little_memory_is_told_before_the_system_kills(tmp_path, monkeypatch):
    config = random_config("llama", 2)
    write_directory(tmp_path, config)
    monkeypatch.setattr(loader, "free_memory", lambda: 1000)
    with pytest.raises(CheckpointError, match="the weights take .* 0.0 GB are free.*precision"):
        load_model(tmp_path, lambda: ChatModel(config), config)


def test_free_memory_is_a_sensible_number():
    assert loader.free_memory() is None or 2**24 < loader.free_memory() < 2**50


MEASURE = """
import resource, sys
import torch
from tessera.checkpoint import loader
from tessera.checkpoint.loader import load_model, read_chat_config
from tessera.models.chat import ChatModel
torch.set_num_threads(1)
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()
dtype = getattr(torch, sys.argv[2])
config = read_chat_config(sys.argv[1])
model = load_model(sys.argv[1], lambda: ChatModel(config), config, dtype=dtype)
with open("/proc/self/status") as file:  # Linux counts in ru_maxrss the parent's memory too
    peak = next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print(weights, peak - before)
"""


def big_directory(directory: Path, size: int, dtype: str) -> None:
    """Write a checkpoint of about `size` bytes whose values are noise, without holding it."""
    item = {"F32": 4, "BF16": 2}[dtype]
    config = random_config("internlm2", 3)
    width = 1024
    language = replace(
        config.language, width=width, num_heads=8, num_kv_heads=2, head_width=128, num_layers=4,
        mlp_width=4096, tied_embeddings=False, vocab_size=1,
    )  # fmt: skip
    config = replace(config, language=language)
    rest = sum(torch.Size(entry.shape).numel() for entry in weight_table(config))
    vocab = max(1, (size // item - rest) // (2 * width))
    config = replace(config, language=replace(language, vocab_size=vocab))
    (directory / "config.json").write_text(json.dumps(config_to_released(config)))
    header, offset = {}, 0
    for entry in weight_table(config):
        end = offset + torch.Size(entry.shape).numel() * item
        header[entry.released] = {
            "dtype": dtype, "shape": entry.shape, "data_offsets": [offset, end],
        }  # fmt: skip
        offset = end
    text = json.dumps(header).encode()
    noise = bytes(range(64)) * 2**14
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, offset, len(noise)):
            file.write(noise[: offset - start])


def measured_ratio(directory: Path, dtype: str) -> float:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(directory), dtype],
        cwd=root, capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    weights, peak = map(int, done.stdout.split())
    return peak / weights


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


def test_a_container_leaves_less_than_the_machine_has(tmp_path):
    assert loader._free_of_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert loader._free_of_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert loader._free_of_container(tmp_path) == 700


@needs_proc
def test_peak_memory_of_a_200_mb_load_stays_near_the_weights(tmp_path):
    big_directory(tmp_path, 100_000_000, "BF16")
    assert measured_ratio(tmp_path, "float32") <= 1.15  # 0.08 of it are the 16 MB that are cast


@needs_proc
@pytest.mark.stress
@pytest.mark.parametrize(
    ("stored", "wanted"), [("F32", "float32"), ("BF16", "bfloat16"), ("BF16", "float32")]
)
def test_peak_memory_of_a_2_gb_load_is_at_most_1_15_of_the_weights(tmp_path, stored, wanted):
    big_directory(tmp_path, 2_200_000_000, stored)
    assert measured_ratio(tmp_path, wanted) <= 1.15
