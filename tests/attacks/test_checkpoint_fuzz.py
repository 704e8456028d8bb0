"""Structured mutations of config, index and weight files: only our errors, each within a second."""

import contextlib
import copy
import json
import random
import struct
import time

import pytest
import torch
from safetensors.torch import save_file

from tessera.checkpoint.files import fill, plan_load
from tessera.checkpoint.loader import read_config
from tessera.checkpoint.names import config_from_released, config_to_released, weight_table
from tessera.errors import CheckpointError, ConfigError
from tests.attacks.checkpoint_traps import raw_header
from tests.unit.checkpoint.tiny import empty_like, random_config, random_parameters, write_directory

HOSTILE = [
    None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308,
    1e12, "", "1", "v1", "\ud800", "\0", "../x", "x" * 70_000, [], [[]], [0], ["a"] * 1000, {},
    {"a": {}}, float("inf"), float("nan"), "LlamaForCausalLM", "phi3", "dynamic", [1.0] * 4,
    "real.safetensors",
]  # fmt: skip


def mutate(text: str, pick: random.Random):
    """Change one to four places of a JSON object: replace, delete, add, move."""
    data = json.loads(text)
    for _ in range(pick.choice([1, 1, 1, 2, 4])):
        part = data
        while True:
            inner = [value for value in part.values() if isinstance(value, dict) and value]
            if not inner or pick.random() < 0.4:
                break
            part = pick.choice(inner)
        if not part:
            break
        key, action = pick.choice(list(part)), pick.random()
        if action < 0.7:
            part[key] = copy.copy(pick.choice(HOSTILE))
        elif action < 0.85:
            del part[key]
        elif action < 0.92:
            part[pick.choice(list(part))] = part[key]
        else:
            part[str(key) + pick.choice(["", "x", "\0", "é"])] = copy.copy(pick.choice(HOSTILE))
    return data


def flip(raw: bytes, pick: random.Random) -> bytes:
    """Damage bytes: flip, cut, repeat, insert."""
    data = bytearray(raw)
    for _ in range(pick.choice([1, 1, 2, 8])):
        if not data:
            break
        at, action = pick.randrange(len(data)), pick.random()
        if action < 0.6:
            data[at] ^= 1 << pick.randrange(8)
        elif action < 0.75:
            del data[at : at + pick.randrange(1, 40)]
        elif action < 0.85:
            data[at:at] = data[at : at + pick.randrange(1, 40)]
        elif action < 0.95:
            data[at:at] = bytes([pick.randrange(256)])
        else:
            del data[at:]
    return bytes(data)


def replace_file(path, content: bytes) -> None:
    """Write a new file: some file systems flush one that is truncated and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


class Tally:
    """Runs one case after the other: only our two errors may come out, each within a second."""

    def __init__(self) -> None:
        self.refused = self.accepted = 0
        self.texts: set[str] = set()

    def check(self, *, refused: int, accepted: int = 0) -> None:
        assert self.refused >= refused
        assert self.accepted >= accepted
        assert [text for text in self.texts if "\n" in text or len(text) > 2000] == []

    @contextlib.contextmanager
    def case(self):
        started = time.process_time()
        try:
            yield
            self.accepted += 1
        except (CheckpointError, ConfigError) as error:
            self.refused += 1
            self.texts.add(str(error))
        assert time.process_time() - started <= 1.0


def fuzz_config(count: int, seed: int) -> Tally:
    pick, tally = random.Random(seed), Tally()
    seeds = [
        config_to_released(random_config(family, 0)) for family in ("internlm2", "phi3", "qwen2")
    ]
    seeds += [config_to_released(random_config("llama", 0).vision)]
    texts = [json.dumps(seed) for seed in seeds]
    for _ in range(count):
        data = mutate(pick.choice(texts), pick)
        with tally.case():
            weight_table(config_from_released(data))
    return tally


def fuzz_config_bytes(count: int, seed: int, directory) -> Tally:
    pick, tally = random.Random(seed), Tally()
    raw = json.dumps(config_to_released(random_config("phi3", 1))).encode()
    for _ in range(count):
        replace_file(directory / "config.json", flip(raw, pick))
        with tally.case():
            read_config(directory)
    return tally


def fuzz_index(count: int, seed: int, directory) -> Tally:
    pick, tally, config = random.Random(seed), Tally(), random_config("llama", 1)
    write_directory(directory, config, shards=2)
    path, table = directory / "model.safetensors.index.json", weight_table(config)
    raw = path.read_bytes()
    for number in range(count):
        changed = flip(raw, pick)
        if number % 2:
            changed = json.dumps(mutate(raw.decode(), pick)).encode()
        replace_file(path, changed)
        with tally.case():
            plan_load(directory, table)
    return tally


def fuzz_weights(count: int, seed: int, directory) -> Tally:
    pick, tally, config = random.Random(seed), Tally(), random_config("llama", 0).vision
    write_directory(directory, config)
    path, table = directory / "model.safetensors", weight_table(config)
    raw, header = path.read_bytes(), raw_header(path).decode()
    data = raw[8 + len(raw_header(path)) :]
    targets = empty_like(random_parameters(table))
    for number in range(count):
        changed = flip(raw, pick)
        if number % 4:
            text = json.dumps(mutate(header, pick)).encode()
            size = len(text) + pick.choice([0] * 20 + [1, -1, 1000])
            changed = struct.pack("<Q", size) + text + data
        replace_file(path, changed)
        with tally.case():
            fill(targets, plan_load(directory, table))
    return tally


def test_mutated_configs_raise_only_our_errors(tmp_path):
    fuzz_config(2000, 1).check(refused=800, accepted=100)
    fuzz_config_bytes(400, 2, tmp_path).check(refused=200)


def test_mutated_indexes_raise_only_our_errors(tmp_path):
    fuzz_index(500, 3, tmp_path).check(refused=300)


def test_mutated_weight_files_raise_only_our_errors(tmp_path):
    fuzz_weights(1200, 4, tmp_path).check(refused=800)


@pytest.mark.stress
def test_many_more_mutations_raise_only_our_errors(tmp_path):
    for number, fuzz in enumerate((fuzz_config_bytes, fuzz_index, fuzz_weights)):
        (tmp_path / str(number)).mkdir()
        fuzz(20_000, 10 + number, tmp_path / str(number)).check(refused=10_000)
    fuzz_config(60_000, 5).check(refused=20_000, accepted=3000)


def test_a_header_of_many_tensors_is_read_within_its_second(tmp_path):
    tensors = {f"t.{number}": torch.zeros(1) for number in range(5000)}
    save_file(tensors, tmp_path / "model.safetensors")
    started = time.process_time()
    with pytest.raises(CheckpointError):
        plan_load(tmp_path, weight_table(random_config("llama", 0)))
    assert time.process_time() - started <= 1.0
