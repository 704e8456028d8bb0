"""Run a command in this process, as a user would type it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tessera.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a user's mistake."""
        assert self.code == 2, self
        lines = self.err.splitlines()
        assert lines, self
        assert lines[-1].startswith("tessera: "), self
        assert not any("Traceback" in line for line in lines), self
        return lines[-1].removeprefix("tessera: ")


Run = Callable[..., Ran]


@pytest.fixture
def tessera(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """`tessera("chat", picture, question)`; `stdin` is what it reads there."""
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))

    def run(*words: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(int(caught.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def model(golden: Path) -> list[str]:
    """Options that choose a tiny checkpoint of random weights and a short answer."""
    return ["--model", str(golden / "chat-300m-internlm2"), "--max-new-tokens", "4"]


@pytest.fixture
def picture(golden: Path) -> Path:
    """A picture that opens."""
    return golden / "chat-300m-internlm2" / "image.png"
