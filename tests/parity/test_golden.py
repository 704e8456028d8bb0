"""All numbers of the reference implementation, recomputed as `tessera check` does it.

TESSERA_GOLDEN names another folder of cases, for example with converted real checkpoints.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tessera.diagnostics.check import NUMBERS, check_directory

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / os.environ.get("TESSERA_GOLDEN", "tests/golden")
FOLDERS = sorted(path.parent for path in GOLDEN.glob(f"*/{NUMBERS}"))
# The dual encoder of 1.0 is not a chat model.
CASES = [
    folder
    for folder in FOLDERS
    if json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] != "internvl"
]


@pytest.mark.parity
@pytest.mark.parametrize("directory", CASES, ids=lambda path: path.name)
def test_every_recorded_number_is_recomputed(directory: Path) -> None:
    report = check_directory(directory)
    assert report.agrees, "\n".join(report.lines())
    assert len(report.comparisons) >= 17


def test_there_are_cases() -> None:
    assert len(CASES) >= (1 if "TESSERA_GOLDEN" in os.environ else 4), f"none in {GOLDEN}"
