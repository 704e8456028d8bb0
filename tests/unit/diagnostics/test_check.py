"""`check` notices every kind of difference; that it passes is shown in tests/parity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tessera.diagnostics.check import TOLERANCE, CheckReport, Comparison, check_directory
from tessera.errors import CheckpointError, UserError

Change = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture
def directory(golden: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "checkpoint"
    shutil.copytree(golden / "chat-300m-phi3", copy)
    return copy


def change(directory: Path, what: Change) -> CheckReport:
    path = directory / "golden.safetensors"
    numbers = load_file(str(path))
    what(numbers)
    save_file(numbers, str(path))
    return check_directory(directory)


def add(name: str, amount: float) -> Change:
    def apply(numbers: dict[str, torch.Tensor]) -> None:
        numbers[name] = numbers[name].clone()
        numbers[name].view(-1)[-1] += amount

    return apply


def failures(report: CheckReport) -> list[str]:
    return [item.name for item in report.comparisons if not item.agrees]


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("image_embeds", 1e-3),
        ("logits_1", 1e-3),
        ("greedy_0", 1),
        ("train_loss", 1e-3),
        ("grad.mlp1.1.weight", 1e-3),
        ("train_labels", 1),
    ],
)
def test_one_changed_number_fails_under_its_name(directory: Path, name: str, amount: float) -> None:
    found = failures(change(directory, add(name, amount)))
    assert name in found


def test_every_entry_is_used_or_named(directory: Path) -> None:
    def more(numbers: dict[str, torch.Tensor]) -> None:
        numbers["something.new"] = torch.zeros(1)
        numbers["grad.no.such.weight"] = torch.zeros(1)

    report = change(directory, more)
    assert failures(report) == ["grad.no.such.weight", "something.new"]
    assert not report.agrees
    text = "\n".join(report.lines())
    assert "unknown entry, cannot recompute" in text
    assert text.endswith("2 of 23 differ")
    assert report.skipped == ["published.train_labels", "published.train_loss"]


@pytest.mark.parametrize("name", ["num_tiles", "num_image_token", "img_context_token_id"])
def test_a_changed_number_of_the_description_fails_under_its_name(
    directory: Path, name: str
) -> None:
    path = directory / "golden.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description[name] += 1
    path.write_text(json.dumps(description), encoding="utf-8")
    report = check_directory(directory)
    assert failures(report) == [name]
    assert f"{description[name] - 1} instead of {description[name]}" in "\n".join(report.lines())


def test_another_shape_is_told_as_such(directory: Path) -> None:
    def cut(numbers: dict[str, torch.Tensor]) -> None:
        numbers["vision_hidden"] = numbers["vision_hidden"][:, 1:].contiguous()

    report = change(directory, cut)
    (item,) = [item for item in report.comparisons if not item.agrees]
    assert item.name == "vision_hidden"
    assert item.note == "shape [7, 17, 64] instead of [7, 16, 64]"


def test_an_entry_that_the_others_need_must_be_there(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="golden.safetensors lacks logit_positions_0"):
        change(directory, lambda numbers: numbers.__delitem__("logit_positions_0"))


def test_not_a_number_never_agrees() -> None:
    assert not Comparison(name="x", difference=float("nan"), exact=False).agrees
    assert Comparison(name="x", difference=TOLERANCE, exact=False).agrees
    assert not Comparison(name="x", difference=TOLERANCE, exact=True).agrees
    assert not CheckReport(directory=Path()).agrees


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"prompts": 3}', '{"prompts": [{"question": 3}]}', "\udcff"]
)
def test_a_broken_description_is_a_mistake_of_the_user(directory: Path, content: str) -> None:
    path = directory / "golden.json"
    path.write_bytes(content.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(UserError, match="golden.json"):
        check_directory(directory)


def test_broken_numbers_are_a_mistake_of_the_user(directory: Path) -> None:
    path = directory / "golden.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"golden.safetensors is damaged"):
        check_directory(directory)


def test_the_picture_cannot_lie_outside_the_directory(directory: Path) -> None:
    description = json.loads((directory / "golden.json").read_text())
    description["image"] = "../../image.png"
    (directory / "golden.json").write_text(json.dumps(description))
    assert check_directory(directory).agrees
