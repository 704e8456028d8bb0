"""The built wheel works outside the checkout: everything that is read at run time is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("setuptools", minversion="77")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "tessera", source / "tessera", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_that_is_read_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "tessera"
    read = (".py", ".safetensors", ".png", ".json")
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.suffix in read and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert {name.split("/")[0] for name in names} <= {"tessera", wheel_info(names)}
    assert any(name.endswith("licenses/NOTICE") for name in names)


def wheel_info(names: set[str]) -> str:
    """Return the folder of the metadata."""
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    return info


def test_an_installed_wheel_answers_outside_the_checkout(
    wheel: Path, tmp_path: Path, golden: Path
) -> None:
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    subprocess.run([*command, str(target), str(wheel)], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(target), "TESSERA_CACHE": str(tmp_path)}
    model = str(golden / "chat-300m-internlm2")
    place = "import tessera; print(tessera.__file__)"
    for words, told in [
        (["-c", place], str(target)),
        (["-m", "tessera", "--version"], "tessera "),
        (["-m", "tessera", "check", model, "--report"], "greedy ids ["),
    ]:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=tmp_path,
            env=environment, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
