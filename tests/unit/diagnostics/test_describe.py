"""The report that a user with a real checkpoint can send in."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tessera.diagnostics.describe import report_lines


def test_the_report_is_the_same_twice_and_names_no_place(golden: Path) -> None:
    directory = golden / "chat-300m-internlm2"
    lines = report_lines(directory)
    assert lines == report_lines(directory)
    text = "\n".join(lines)
    assert str(directory) not in text
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    assert digest in text
    assert "language_model.model.layers.0.attention.wqkv.weight" in text
    assert "language_model.model.layers.1." not in text
