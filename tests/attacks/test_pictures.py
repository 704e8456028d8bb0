import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.processing.image import ImageLimits, open_image
from tests.attacks.make_bombs import bombs
from tests.attacks.make_pictures import MUTATIONS, mutate, seeds
from tests.attacks.run_pictures import MAX_SECONDS, attack

# Damaged metadata makes Pillow warn; outside pytest the package silences that.
pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[2]
NUM_ATTACKS = 20_000
CI_SLACK = 4  # a busy machine also slows processor time: caches, clocks


def test_every_undamaged_picture_opens_in_both_modes() -> None:
    assert len(seeds()) >= 50
    for name, data in seeds():
        upright = open_image(data)
        assert upright.mode == "RGB", name
        assert open_image(data, mode="reference").mode == "RGB", name


def test_an_attack_is_repeated_by_its_number() -> None:
    for index in (0, 77, 5_601, 19_999):
        assert mutate(index) == mutate(index)
    labels = [mutate(index)[0] for index in range(len(seeds()) * 100, NUM_ATTACKS)]
    for mutation in MUTATIONS:
        assert sum(mutation.__name__.strip("_") in label for label in labels) > 500
    cuts = [mutate(index)[0] for index in range(len(seeds()) * 100)]
    assert all(cuts[index].endswith(f"cut at {index // len(seeds())}%") for index in range(100))


@pytest.mark.parametrize("part", range(4))
def test_damaged_pictures_raise_nothing_but_image_errors_and_quickly(part: int) -> None:
    account = attack(range(part, NUM_ATTACKS, 4))
    assert account.tried == NUM_ATTACKS // 4
    assert account.unexpected == []
    assert account.slowest_s <= MAX_SECONDS * CI_SLACK, account.slowest
    assert account.opened > NUM_ATTACKS // 40  # most of the damage must reach the decoders
    assert account.refused > NUM_ATTACKS // 40


def test_damaged_pictures_keep_to_the_default_limits_too() -> None:
    account = attack(range(5_600, NUM_ATTACKS, 17), limits=ImageLimits())
    assert account.unexpected == []


@pytest.mark.stress
def test_a_hundred_thousand_damaged_pictures_raise_nothing_but_image_errors() -> None:
    account = attack(range(NUM_ATTACKS, NUM_ATTACKS + 100_000))
    assert account.unexpected == []
    assert account.slowest_s <= MAX_SECONDS * CI_SLACK, account.slowest


def test_bombs_are_refused_before_they_cost_64_mb(tmp_path: Path) -> None:
    every = bombs()
    assert len(every) >= 40
    for number, bomb in enumerate(every):
        (tmp_path / f"{number:03d}.png").write_bytes(bomb.data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.open_bombs", str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    outcomes = json.loads(done.stdout)
    wrong = []
    for number, bomb in enumerate(every):
        outcome, growth_mib, seconds = outcomes[f"{number:03d}.png"]
        if outcome.startswith("unexpected") or (bomb.refused and outcome.startswith("opened")):
            wrong.append((bomb.name, outcome))
        if growth_mib > 64 or seconds > 1:
            wrong.append((bomb.name, outcome, growth_mib, seconds))
    assert wrong == []
