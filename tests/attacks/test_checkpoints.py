"""Booby-trapped checkpoints: a typed error or an inert load, nothing else.

What is checked is the property, not the payload: during a load no process starts, no address is
looked up, nothing is unpickled, no Python or pickle file and nothing outside is opened.
"""

import contextlib
import pickle
import shutil
import time

import pytest

import tessera
from tessera.checkpoint.loader import load_model, read_chat_config
from tessera.errors import UserError
from tessera.models.chat import ChatModel
from tessera.processing.tokenizer import Tokenizer
from tests.attacks.checkpoint_traps import REFUSED, TRAPS, WATCH, Trap


def test_there_are_at_least_sixty_traps():
    assert len(TRAPS) >= 60
    assert set(TRAPS) >= REFUSED


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_ends_in_a_typed_error_or_an_inert_load(name, golden, tmp_path, monkeypatch):
    source, outside = golden / "chat-300m-internlm2", tmp_path / "outside"
    directory = tmp_path / "model"
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("golden*", "*.png", "*.py"))
    outside.mkdir()
    shutil.copy(source / "model.safetensors", outside / "secret.safetensors")
    shutil.copy(source / "config.json", outside / "secret.json")
    trap = Trap(directory, outside)
    TRAPS[name](trap)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    monkeypatch.chdir(directory)
    WATCH.events.clear()
    WATCH.outside, WATCH.directory = str(outside), str(directory)
    started = time.monotonic()
    loaded = False
    try:
        with contextlib.suppress(UserError):
            config = read_chat_config(directory)
            load_model(directory, lambda: ChatModel(config), config)
            loaded = True
        with contextlib.suppress(UserError):
            Tokenizer.from_directory(directory)
        with contextlib.suppress(UserError):  # and all of it, as everyone loads it
            tessera.load(directory, precision="float32", device="cpu")
    finally:
        WATCH.directory = None
    assert WATCH.events == []
    assert loaded == (name not in REFUSED)
    assert not trap.canary.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert time.monotonic() - started < 10


def test_the_watch_itself_sees_what_it_should(tmp_path):
    trap = Trap(tmp_path / "model", tmp_path / "outside")
    trap.write("x.bin", b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "s").write_text("")
    WATCH.events.clear()
    WATCH.outside, WATCH.directory = str(tmp_path / "outside"), str(tmp_path / "model")
    try:
        (tmp_path / "model" / "x.bin").read_bytes()
        (tmp_path / "outside" / "s").read_bytes()
        pickle.loads(trap.pickle()).close()
    finally:
        WATCH.directory = None
    assert len(WATCH.events) == 3
    assert trap.canary.exists()
