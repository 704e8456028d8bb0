"""`tessera info`, `check`, `doctor` and `cache` as they are typed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tessera import bundled
from tests.cli.conftest import Run


def test_info_tells_parts_and_what_a_picture_costs(
    tessera: Run, golden: Path, picture: Path
) -> None:
    ran = tessera("info", golden / "chat-300m-internlm2", "--image", picture, "--max-tiles", 6)
    assert ran.code == 0
    assert "InternVL-Chat with internlm2" in ran.out
    assert "7 tiles, 28 visual tokens, 30 tokens in all" in ran.out


def test_info_json_is_json(tessera: Run, picture: Path) -> None:
    ran = tessera("info", "opengvlab/mini-internvl-chat-2b-v1-5", "--json", "--image", picture)
    found = json.loads(ran.out)
    assert found["parameters"] == 2_205_754_368
    assert found["pictures"][0]["tokens"] == found["pictures"][0]["visual_tokens"] + 2


def test_info_without_a_name_lists_the_presets(tessera: Run) -> None:
    assert "InternViT-300M-448px" in tessera("info").out


def test_info_of_a_vision_encoder_takes_no_picture(tessera: Run, picture: Path) -> None:
    assert tessera("info", "InternViT-300M-448px").code == 0
    complaint = tessera("info", "InternViT-300M-448px", "--image", picture).complaint
    assert complaint == "InternViT-300M-448px is a vision encoder alone: --image needs a chat model"


def test_info_of_an_unknown_name_names_the_nearest(tessera: Run) -> None:
    complaint = tessera("info", "InternVL-Chat-V1-6").complaint
    assert complaint.startswith(
        "'InternVL-Chat-V1-6' is neither a directory nor a preset. "
        "Did you mean 'InternVL-Chat-V1-5'?"
    )


def test_check_passes_on_the_reference_numbers(tessera: Run, golden: Path) -> None:
    ran = tessera("check", golden / "chat-300m-phi3")
    assert ran.code == 0, ran.out
    assert ran.out.splitlines()[-1] == "all agree"


def test_check_is_exit_1_when_a_weight_differs(tessera: Run, golden: Path, tmp_path: Path) -> None:
    directory = tmp_path / "changed"
    shutil.copytree(golden / "chat-300m-internlm2", directory)
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40  # a high bit of the last number
    weights.write_bytes(content)
    ran = tessera("check", directory)
    assert ran.code == 1
    assert "FAIL" in ran.out
    assert "differ" in ran.out.splitlines()[-1]


def test_check_of_a_directory_without_numbers_says_what_else_there_is(
    tessera: Run, tmp_path: Path
) -> None:
    assert tessera("check", tmp_path).complaint == (
        f"{tmp_path} has no golden.safetensors: there is nothing recorded to compare with. "
        "`tessera check MODEL --report` describes a checkpoint without it"
    )
    assert "is not a directory" in tessera("check", tmp_path / "gone").complaint


def test_the_report_holds_hashes_shapes_and_numbers(tessera: Run, golden: Path) -> None:
    ran = tessera("check", golden / "chat-6b-yi", "--report")
    assert ran.code == 0
    for word in ("sha256", "vision_model.encoder.layers.0.attn.q_norm.weight", "greedy ids ["):
        assert word in ran.out
    assert str(golden) not in ran.out


def test_doctor_tells_what_there_is(tessera: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    monkeypatch.setattr(bundled, "trained_parts", list)
    ran = tessera("doctor")
    assert ran.code == 0, ran.out
    for word in ("python", "memory", "precision", "not made yet", "https_proxy"):
        assert word in ran.out
    assert "secret" not in ran.out


def test_doctor_is_exit_1_when_a_package_is_missing(
    tessera: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.diagnostics import doctor

    monkeypatch.setattr(doctor, "CORE", ("torch", "surely-not-there"))
    ran = tessera("doctor")
    assert ran.code == 1
    assert "MISSING  packages      surely-not-there: pip install tessera-vl" in ran.out


def test_the_cache_is_listed_and_emptied(tessera: Run, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert "0.0 MB  in" in tessera("cache", "list").out
    for name, mark in (("tessera-small-1", "tessera.json"), (".tessera-small-half", "x")):
        (cache / "models" / name).mkdir(parents=True)
        (cache / "models" / name / mark).write_bytes(b"x" * 1_000_000)
    (cache / "wheels").mkdir()
    (cache / "wheels" / "a.whl").write_bytes(b"x" * 2_000_000)
    (tmp_path / "outside").write_text("kept")
    (cache / "wheels" / "link").symlink_to(tmp_path / "outside")
    listed = tessera("cache", "list").out.splitlines()
    assert [line.split("MB")[1].split() for line in listed[:3]] == [
        ["left", "by", "an", "interrupted", "run", ".tessera-small-half"],
        ["model", "tessera-small-1"],
        ["wheel", "a.whl"],
    ]
    assert "removed a.whl (2.0 MB)" in tessera("cache", "rm", "a.whl").out
    assert tessera("cache", "rm", "tessera-smal-1").complaint == (
        "the cache holds no 'tessera-smal-1'. Did you mean 'tessera-small-1'? "
        "`tessera cache list` shows it"
    )
    assert tessera("cache", "rm", "../outside").code == 2
    assert tessera("cache", "rm").complaint == "give names of `tessera cache list`, or --all"
    assert tessera("cache", "rm", "--all").code == 0
    assert list((cache / "models").iterdir()) == list((cache / "wheels").iterdir()) == []
    assert (tmp_path / "outside").read_text() == "kept"


def test_options_that_change_nothing_are_told(tessera: Run, golden: Path, picture: Path) -> None:
    assert "--max-tiles changes nothing" in tessera("info", "--max-tiles", 2).err
    assert "--image needs a model" in tessera("info", "--image", picture).complaint
    assert "InternVL-Chat-V1-5" in json.loads(tessera("info", "--json").out)
    model = golden / "chat-300m-internlm2"
    assert "--precision changes nothing" in tessera("check", model, "--precision", "float32").err


def test_a_file_of_a_checkpoint_is_not_a_model(tessera: Run, golden: Path) -> None:
    ran = tessera("info", golden / "chat-300m-internlm2" / "config.json")
    assert "is a file: give the directory that it lies in" in ran.complaint


def test_doctor_says_that_torch_does_not_load(
    tessera: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    ran = tessera("doctor")
    assert ran.code == 1
    assert "is installed and does not load" in ran.out


def test_the_same_entry_may_be_named_twice(tessera: Run, tmp_path: Path) -> None:
    wheel = tmp_path / "cache" / "wheels" / "x.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert tessera("cache", "rm", "x.whl", "x.whl").out == "removed x.whl (0.0 MB)\n"
    assert tessera("cache", "rm", "--all").out == "the cache is empty\n"


@pytest.mark.parametrize("words", [[], ["cache"]])
def test_no_command_shows_the_help(tessera: Run, words: list[str]) -> None:
    ran = tessera(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: tessera")
    assert "\nCommands:\n" in ran.err
