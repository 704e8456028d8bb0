"""dev/setup.sh on machines that lack something: one line that says what to install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "uname", "df", "awk", "touch", "mkdir", "cp")
ELSEWHERE = (Path("/opt/homebrew/bin/python3"), Path("/usr/local/bin/python3"))

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or any(path.exists() for path in ELSEWHERE),
    reason="needs a machine whose Pythons are all on PATH",
)


def setup(tmp_path: Path, python: str, *, system: str = "Linux", **variables: str) -> str:
    """Run the script, which has to fail; return its complaint."""
    done = run_setup(tmp_path, python, "chat", system=system, **variables)
    assert done.returncode == 1
    assert not (tmp_path / "venv" / "bin").exists()
    return done.stderr.strip()


def run_setup(
    tmp_path: Path, python: str, kind: str, *, system: str = "Linux", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the script where `python3` and `uname` are fakes."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "uname").unlink()
    for name, body in {"python3": python, "uname": f"echo {system}"}.items():
        (tools / name).write_text(f"#!{shutil.which('sh')}\n{body}\n")
        (tools / name).chmod(0o755)
    return subprocess.run(
        [str(tools / "sh"), str(ROOT / "dev" / "setup.sh"), kind],
        env={"PATH": str(tools), "VENV": str(tmp_path / "venv"), **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


OLD = 'case "$*" in -V) echo Python 3.9.6 ;; *) exit 1 ;; esac'


def fake(failing: str, prints: str = "Linux x86_64") -> str:
    """A Python that does everything but what `failing` matches."""
    return (
        f'case "$2" in *{failing}*) exit 1 ;; *platform*) echo {prints} ;; '
        "*version_info*print*|*print*version_info*) echo 3.12 ;; esac"
    )


def test_an_old_python_is_named_with_what_to_install(tmp_path: Path) -> None:
    assert setup(tmp_path, OLD) == (
        "tessera: Python 3.10 or newer is needed, found Python 3.9.6: install it, on Debian and "
        "Ubuntu with: sudo apt install python3 python3-venv"
    )


def test_on_macos_the_advice_is_for_macos(tmp_path: Path) -> None:
    told = setup(tmp_path, OLD, system="Darwin")
    assert told.endswith("install it from python.org or with: brew install python@3.12")


def test_a_python_without_venv_is_told_the_package(tmp_path: Path) -> None:
    told = setup(tmp_path, fake("ensurepip"))
    assert told == ("tessera: python3 cannot make environments: sudo apt install python3.12-venv")


def test_an_intel_mac_is_told_that_there_are_no_wheels(tmp_path: Path) -> None:
    told = setup(tmp_path, fake("nothing", "Darwin x86_64"), system="Darwin")
    assert told.startswith("tessera: PyTorch has no current wheels for Intel Macs")


def test_a_chosen_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    told = setup(tmp_path, fake("nothing"), PYTHON="/no/python")
    assert told == "tessera: PYTHON=/no/python is not a Python 3.10 to 3.14"


def test_a_folder_that_is_no_environment_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "mine").write_text("kept")
    told = setup(tmp_path, fake("nothing"))
    assert told.endswith("exists and is no environment: give another one")
    assert (tmp_path / "venv" / "mine").read_text() == "kept"


WORKING = """
case "$*" in
"-m venv --clear "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; : > "$4/pyvenv.cfg" ;;
"-m pip "*) echo "$*" >> "$LOG" ;;
*platform*) echo Linux x86_64 ;;
esac
"""


@pytest.mark.parametrize(("kind", "extra"), [("chat", "default"), ("dev", "dev")])
def test_pip_is_renewed_first_then_torch_from_its_index_then_all_else(
    tmp_path: Path, kind: str, extra: str
) -> None:
    log = tmp_path / "log"
    done = run_setup(
        tmp_path, WORKING, kind, LOG=str(log), CONSTRAINTS="c.txt", TORCH_INDEX="https://cpu"
    )
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        "-m pip install --upgrade pip",
        "-m pip install --constraint c.txt --index-url https://cpu torch",
        f"-m pip install --constraint c.txt --editable .[{extra}]",
    ]
    ready = {path.name for path in (tmp_path / "venv").glob(".ready-*")}
    assert ready == ({".ready-chat"} if kind == "chat" else {".ready-chat", ".ready-dev"})
    assert "MB are free" in done.stderr
    assert "CUDA" not in done.stderr  # an index was chosen


def test_without_an_index_the_size_of_cuda_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    python = WORKING.replace("esac", '"-c import torch"*) exit 1 ;;\nesac')
    done = run_setup(tmp_path, python, "chat", LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert "brings CUDA: 3 GB more to fetch and 7 GB more of disk" in done.stderr
    assert log.read_text().splitlines()[1:] == ["-m pip install --editable .[default]"]
