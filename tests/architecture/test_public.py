"""What a user can rely on: names, presets, a light import that touches neither net nor cache."""

import dataclasses
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tessera
from tessera import presets
from tessera.config import ModelConfig, VisionConfig
from tests.architecture.source import ROOT

PUBLIC_NAMES = ["Assistant", "Conversation", "ModelConfig", "UserError", "__version__", "load"]
HEAVY = ("torch", "numpy", "PIL", "transformers", "tokenizers", "huggingface_hub", "typer", "rich")
MAX_IMPORT_RATIO = 5.0


def test_the_public_names_are_frozen_and_each_of_them_arrives() -> None:
    assert tessera.__all__ == PUBLIC_NAMES
    assert dir(tessera) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(tessera, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="lode"):
        tessera.lode  # noqa: B018


def test_every_preset_loads_and_is_frozen() -> None:
    for table, kind in ((presets.PRESETS, ModelConfig), (presets.VISION_PRESETS, VisionConfig)):
        assert table
        for name, make in table.items():
            config = make()
            assert isinstance(config, kind), name
            assert config == make()
            with pytest.raises(dataclasses.FrozenInstanceError):
                config.num_layers = 1  # type: ignore[misc]


def test_every_public_function_of_the_presets_is_in_a_table() -> None:
    listed = {*presets.PRESETS.values(), *presets.VISION_PRESETS.values()}
    written = {
        function
        for name, function in inspect.getmembers(presets, inspect.isfunction)
        if function.__module__ == presets.__name__ and not name.startswith("_")
    }
    assert written == listed


def test_every_json_file_that_the_package_ships_can_be_read() -> None:
    for path in (ROOT / "tessera").rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))


def _run(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _run(
        "import sys, tessera; print(*{name.split('.')[0] for name in sys.modules})"
    ).split()
    assert set(HEAVY) & set(loaded) == set()


def _cpu_seconds(code: str) -> float:
    """Processor time of one interpreter, which a busy machine does not stretch as it does hours."""
    measure = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", measure, code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return float(result.stdout)


@pytest.mark.skipif(os.name == "nt", reason="no getrusage there")
def test_importing_the_package_takes_at_most_five_times_a_bare_interpreter() -> None:
    _cpu_seconds("import tessera")  # compile once
    bare = min(_cpu_seconds("pass") for _ in range(5))
    ours = min(_cpu_seconds("import tessera") for _ in range(5))
    assert ours <= MAX_IMPORT_RATIO * max(bare, 0.005), f"{ours:.3f} s against {bare:.3f} s"


WATCH = """
import sys
seen = []
def watch(event, args):
    if event.startswith(("socket.", "urllib.", "http.client", "ftplib.", "smtplib.")):
        seen.append(f"{event} {args!r}"[:200])
    elif event in ("open", "os.listdir", "os.scandir") and HOME in str(args[0]):
        seen.append(f"{event} {args[0]}")
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "pickle.find_class"):
        seen.append(f"{event} {args!r}"[:200])
sys.addaudithook(watch)
"""


def _watched(code: str, home: Path) -> str:
    """Run code; return what of it touched the network, another process or the hub's cache."""
    (home / "hub").mkdir(parents=True, exist_ok=True)
    (home / "token").write_text("not a token")
    program = f"HOME = {str(home)!r}\n{WATCH}\n{code}\nprint(*seen, sep='\\n')"
    hidden = {"HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "TESSERA_CACHE": str(home)}
    return _run(program, **hidden).strip()


def test_importing_every_module_opens_no_socket_and_reads_no_cache(tmp_path: Path) -> None:
    names = sorted(
        module.name for module in pkgutil.walk_packages(tessera.__path__, prefix="tessera.")
    )
    assert "tessera.models.vision" in names
    code = "\n".join(f"import {name}" for name in ["tessera", *names] if "__main__" not in name)
    assert _watched(code, tmp_path) == ""


@pytest.mark.parametrize(
    "code",
    [
        "import socket\nsocket.socket().close()",
        "open(HOME + '/token').close()",
        "import os\nos.listdir(HOME + '/hub')",
        "import subprocess\nsubprocess.run([sys.executable, '-c', ''])",
    ],
)
def test_the_watch_notices_what_it_is_there_for(code: str, tmp_path: Path) -> None:
    assert _watched(code, tmp_path) != ""
