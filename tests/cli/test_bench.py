"""`tessera bench` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

QUICK = ("--prompt", 20, "--new-tokens", 2, "--repeats", 1)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_a_checkpoint_is_measured(tessera: Run, golden: Path, precision: str) -> None:
    model = golden / "chat-300m-internlm2"
    ran = tessera("bench", model, "--precision", precision, "--json", *QUICK)
    assert ran.code == 0, ran
    found = json.loads(ran.out)
    assert found["precision"] == precision
    assert found["prompt_s"].keys() == {"20"}
    assert min(found["tile_s"], found["token_s"], found["prompt_s"]["20"]) > 0
    assert found["peak_bytes"] > 50e6


def test_the_text_tells_what_was_measured(tessera: Run, golden: Path) -> None:
    ran = tessera("bench", golden / "chat-6b-yi", "--precision", "float32", *QUICK)
    assert "s a tile, projector included" in ran.out
    assert "tokens/s for 20 positions" in ran.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "is neither a directory here nor a hub id"),
        (["CASE", "--prompt", 100_000], "a prompt of 100000 positions: the model reads"),
        (["CASE", "--threads", 10_000], "--threads 10000: this machine has"),
        (["CASE", "--precision", "int2"], "precision 'int2' does not exist"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    tessera: Run, golden: Path, words: list[object], told: str
) -> None:
    case = [golden / "chat-6b-yi" if word == "CASE" else word for word in words]
    assert told in tessera("bench", *case).complaint
