"""Real processes: start-up, signals, pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESSERA = [sys.executable, "-m", "tessera"]
ROOT = Path(__file__).resolve().parents[2]


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TESSERA, *map(str, words)], capture_output=True, text=True, cwd=ROOT, timeout=120,
        check=False, **options,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["chat", "--help"], ["--version"]])
def test_help_loads_neither_torch_nor_numpy_nor_pillow(words: list[str]) -> None:
    program = (
        "import sys\nfrom tessera.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'transformers', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tessera" in done.stdout


def test_a_mistake_is_one_line_and_exit_2() -> None:
    done = run("chat", "gone.png", "What?")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tessera: gone.png does not exist; check the path\n"


def test_an_ascii_terminal_shows_what_it_can(golden: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run(
        "chat", "你好", "--model", golden / "chat-300m-internlm2", "--max-new-tokens", 8,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of Unix")
def test_ctrl_c_on_a_terminal_stops_the_answer_and_exit_ends_the_conversation(
    golden: Path, tmp_path: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    words = [*TESSERA, "chat", "--model", str(golden / "chat-300m-internlm2")]
    environment = {**os.environ, "TERM": "dumb", "TESSERA_CACHE": str(tmp_path)}
    process = subprocess.Popen(
        [*words, "--max-new-tokens", "20000", "--verbose"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = _read_until(ours, b"> ")
        os.write(ours, b"Hello\n")
        _read_until(ours, b"Hello\r\n")
        time.sleep(0.1)
        _read_some(ours)
        process.send_signal(signal.SIGINT)
        seen = _read_until(ours, b"> ")
        assert b"stopped by user" in seen
        os.write(ours, b"/exit\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_some(terminal: int) -> bytes:
    return os.read(terminal, 1 << 16)


def _read_until(terminal: int, end: bytes, timeout_s: float = 60.0) -> bytes:
    import select

    seen, deadline = b"", time.monotonic() + timeout_s
    while end not in seen[-1000:].replace(b"\x1b[?2004h", b""):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            pytest.fail(f"no {end!r} in {seen[-500:]!r}")
        seen += _read_some(terminal)
    return seen


def test_a_reader_that_goes_away_is_no_traceback(golden: Path) -> None:
    process = subprocess.Popen(
        [*TESSERA, "info", "--json", str(golden / "chat-300m-internlm2")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full, and a shell that closes streams")
@pytest.mark.parametrize(
    ("end", "told"),
    [
        (">/dev/full", "tessera: stdout cannot be written (No space left on device)"),
        (">&-", "tessera: stdout is closed"),
    ],
)
def test_an_output_that_takes_nothing_is_one_line(end: str, told: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m tessera info {end}', sys.executable],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stderr.startswith(told)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes streams")
@pytest.mark.parametrize("words", ["", "- What?"])
def test_a_closed_stdin_is_one_line(golden: Path, words: str) -> None:
    model = golden / "chat-300m-internlm2"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m tessera chat --model "$1" {words} <&-', sys.executable, str(model)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert "is closed" in done.stderr.splitlines()[-1]
