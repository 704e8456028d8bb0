"""What the README and the other pages tell people to type: parsed always, run where it is cheap."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tessera.presets import PRESETS
from tests.architecture.source import ROOT
from tests.cli import markdown

MAX_README_LINES = 200
SHELLS = ("sh", "bash", "console", "shell")
PROGRAMS = ("make ", "tessera ", "python ", "pip ")
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
CHEAP = (
    "tessera info",
    "tessera check tests/golden",
    "tessera doctor",
    "tessera cache list",
    "tessera --version",
)


def _commands() -> list[tuple[str, str]]:
    """Every line that is to be typed, with its page; continued lines joined."""
    found = []
    for page in markdown.pages():
        for block in markdown.blocks(page):
            if block.language in ("", *SHELLS):
                joined = "\n".join(block.lines).replace("\\\n", " ")
                lines = [line.removeprefix("$ ") for line in joined.splitlines()]
                if not block.language:  # a drawing, unless a line starts with a program of ours
                    lines = [line for line in lines if line.startswith(PROGRAMS)]
                name = page.relative_to(ROOT).as_posix()
                found += [(name, line) for line in lines]
    return found


def _parse_tessera(words: list[str]) -> None:
    """Parse a command line without running it; raises a usage error if it is wrong."""
    from typer.main import get_command

    from tessera.cli.main import app

    command: Any = get_command(app)
    words = [word for word in words if word != "--traceback"]
    if words[:1] == ["--version"]:
        return
    context = None
    while hasattr(command, "commands"):
        assert "".join(words[:1]) in command.commands, f"no command {words[:1]}"
        context = command.context_class(command, info_name="tessera", parent=context)
        command, words = command.commands[words[0]], words[1:]
    command.make_context("tessera", list(words), parent=context)


def _make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", text, re.MULTILINE))


def _extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib came with Python 3.11
    table = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", table, re.MULTILINE))


def _check(line: str) -> None:
    """Raise if a line that we tell people to type cannot work."""
    words = shlex.split(line.split(" > ")[0])
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program = words[0].rpartition("/")[2]
    for word in words:
        if re.match(r"(\w+=)?(examples|tests|docs|dev)\b", word):
            assert (ROOT / word.rpartition("=")[2]).exists(), f"{word} does not exist"
    if program == "tessera":
        _parse_tessera(words[1:])
    elif program == "make":
        variables = [word for word in words[1:] if "=" in word]
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert set(words[1:]) - set(variables) <= _make_targets(), line
        for variable in variables:
            assert variable.split("=")[0] in text, line
    elif program in ("python", "python3"):
        assert words[1] == "-m" or (ROOT / words[1]).is_file(), line
    elif program == "pip":
        extras = ",".join(re.findall(r"(?:tessera-vl|\.)\[([\w,]+)\]", line))
        assert set(filter(None, extras.split(","))) <= _extras(), line
    else:
        assert program in ("git", "cd", ".", "source"), f"who checks {line!r}?"


@pytest.mark.parametrize(("page", "line"), _commands())
def test_every_command_of_the_pages_can_be_typed(page: str, line: str) -> None:
    _check(line)


@pytest.mark.parametrize(
    "line",
    [
        "tessera chatt photo.jpg",
        "tessera chat --modell x photo.jpg",
        "tessera run photos",
        "make nothing",
        "make chat NOTHING=1",
        "python dev/gone.py",
        "tessera chat examples/gone.png",
        "pip install 'tessera-vl[gone]'",
        "pip install '.[default,gone]'",
        "curl example.org",
    ],
)
def test_a_command_that_would_fail_is_found(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        _check(line)


@pytest.mark.parametrize(
    "line", sorted({line for _, line in _commands() if line.startswith(CHEAP)} or {CHEAP[-1]})
)
def test_cheap_commands_of_the_pages_run(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.cli.main import app

    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path))
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exception is None or result.exit_code == 0, result.output
    assert result.output.strip()


def test_the_readme_has_at_most_200_lines_and_its_two_commands_come_first() -> None:
    for page in (README, CHINESE):
        assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
        assert markdown.blocks(page)[0].lines == ["make chat", "make test"]


def test_both_readmes_have_the_same_commands_programs_links_and_headings() -> None:
    english, chinese = markdown.blocks(README), markdown.blocks(CHINESE)
    assert [block.language for block in english] == [block.language for block in chinese]
    for ours, theirs in zip(english, chinese, strict=True):
        if ours.language:  # drawings and the tree are translated
            assert ours.lines == theirs.lines
    levels = [re.findall(r"^(#+) ", _prose(page), re.MULTILINE) for page in (README, CHINESE)]
    assert levels[0] == levels[1]
    targets = [{target for _, target in markdown.links(page)} for page in (README, CHINESE)]
    assert targets[0] - {"README.zh.md"} == targets[1] - {"README.md"}


def _prose(page: Path) -> str:
    return markdown.without_code(page.read_text(encoding="utf-8"))


def test_both_readmes_hold_the_same_figures() -> None:
    figures = [
        re.search(r"<!-- figures -->(.*)<!-- /figures -->", _prose(page), re.DOTALL)
        for page in (README, CHINESE)
    ]
    assert all(figures)
    numbers = [re.findall(r"\d+(?:\.\d+)?", found[1]) for found in figures if found]
    assert numbers[0] == numbers[1] != []


@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_the_tree_names_every_part_of_the_package_and_nothing_else(page: Path) -> None:
    (tree,) = [block.text for block in markdown.blocks(page) if block.text.startswith("tessera/\n")]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.startswith("  ")}
    there = {
        path.name
        for path in (ROOT / "tessera").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }
    assert named == there
    for line in tree.splitlines():
        if not line.startswith(" "):
            assert (ROOT / line.split()[0]).is_dir(), line


def test_the_sizes_of_released_models_are_those_of_the_presets() -> None:
    from tessera.diagnostics.info import describe

    rows = [row for row in markdown.rows(README.read_text(encoding="utf-8")) if "GB" in row[-1]]
    assert len(rows) == 4
    for name, parameters, bfloat16, float32 in rows:
        preset = name.split(",")[0]
        count = describe(preset, PRESETS[preset]()).parameters
        assert parameters == f"{count / 1e9:.1f} billion"
        assert bfloat16 == f"{count * 2 / 1e9:.1f} GB"
        assert float32 == f"{count * 4 / 1e9:.1f} GB"


def test_the_download_size_in_the_readme_is_that_of_the_pinned_wheels() -> None:
    from tessera.bundled import LANGUAGE_WHEEL, VISION_WHEEL

    size = f"{(VISION_WHEEL.size + LANGUAGE_WHEEL.size) / 1e6:.0f} MB"
    assert size in README.read_text(encoding="utf-8")
    assert size in CHINESE.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_the_python_of_the_readme_runs(
    page: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tessera
    from tessera import assistant
    from tessera.engine.generate import GenerationOptions

    tiny = assistant.load(golden / "chat-300m-internlm2", device="cpu")
    start = tiny._start
    short = GenerationOptions(max_new_tokens=3)
    monkeypatch.setattr(tiny, "_start", lambda talks, options, tiles: start(talks, short, 1))
    monkeypatch.setattr(assistant, "load", lambda *names, **options: tiny)
    monkeypatch.chdir(ROOT)
    (program,) = [block.text for block in markdown.blocks(page) if block.language == "python"]
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, page.name, "exec"), names)
    assert names["tessera"] is tessera
    assert printed.getvalue()
    assert tuple(names["vectors"].shape) == (1, tiny.config.vision.width)
