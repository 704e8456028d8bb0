"""Write docs/cli/ from the commands themselves, and the frozen list of their flags.

python dev/make_docs.py                  write the pages
python dev/make_docs.py --check          exit 1 and name the pages that are not what they should be
python dev/make_docs.py --freeze-flags   accept the present flags as the frozen ones
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "cli"
FLAGS = ROOT / "tests" / "architecture" / "flags.json"
HEAD = "<!-- Written by `make docs` from the commands; change the help texts, not this page. -->\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, `tessera` itself first."""
    from typer.main import get_command

    from tessera.cli.main import app

    yield from _below("tessera", get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {word}", child)


def flags() -> dict[str, list[str]]:
    """Return the arguments and options that every command takes."""
    return {
        name: sorted(
            option
            for parameter in command.params
            for option in (_spellings(parameter) or [parameter.name.upper()])
        )
        for name, command in commands()
    }


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    found = list(commands())
    texts = {"README.md": _index(found)}
    for name, command in found:
        words = name.split()
        if len(words) > 1:
            texts.setdefault(f"{words[1]}.md", HEAD)
            texts[f"{words[1]}.md"] += "\n" + _page(name, command, "#" * (len(words) - 1))
    return texts


def _index(found: list[tuple[str, Any]]) -> str:
    lines = [HEAD, "# The command line", "", f"{_help(found[0][1])}", ""]
    lines += ["| command | what it does |", "|---|---|"]
    for name, command in found[1:]:
        words = name.split()
        anchor = "" if len(words) == 2 else "#" + "-".join(words)
        lines.append(f"| [`{name}`]({words[1]}.md{anchor}) | {_summary(command)} |")
    lines += ["", "Options of all commands:", "", *_table(found[0][1])]
    lines += [
        "",
        "Exit codes: 0 done; 1 the command found differences, or had nothing it could answer; "
        "2 a mistake in what was given, told in one line on stderr; 130 stopped with Ctrl-C.",
    ]
    return "\n".join(lines) + "\n"


def _page(name: str, command: Any, level: str) -> str:
    usage = [name]
    if hasattr(command, "commands"):
        usage.append("COMMAND")
    for parameter in command.params:
        if not _spellings(parameter):
            usage.append(_argument(parameter))
    if any(_spellings(parameter) for parameter in command.params):
        usage.insert(1, "[OPTIONS]")
    lines = [f"{level} {name}", "", _help(command), "", "```text", " ".join(usage), "```"]
    table = _table(command)
    return "\n".join(lines + (["", *table] if table else [])) + "\n"


def _table(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        spellings = _spellings(parameter) or [_argument(parameter)]
        names = _one_line(", ".join(f"`{spelling}`" for spelling in spellings))
        default = parameter.default
        shown = "" if default is None or default is False or callable(default) else f"`{default}`"
        rows.append(f"| {names} | {_one_line(parameter.help or '')} | {shown} |")
    return ["| option | meaning | default |", "|---|---|---|", *rows] if rows else []


def _spellings(parameter: Any) -> list[str]:
    if parameter.param_type_name != "option":
        return []
    return [*parameter.opts, *parameter.secondary_opts]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    if name.startswith("["):
        return name
    name = f"{name}..." if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _help(command: Any) -> str:
    return (command.help or "").replace("\f", "").strip()


def _summary(command: Any) -> str:
    return _one_line(_help(command).split("\n\n")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def stale() -> list[str]:
    """Return the pages that differ from the commands, and pages of commands that are gone."""
    wanted = pages()
    there = {path.name for path in PAGES.glob("*.md")}
    differing = {
        name
        for name, text in wanted.items()
        if name not in there or (PAGES / name).read_text(encoding="utf-8") != text
    }
    return sorted(differing | (there - set(wanted)))


def write() -> None:
    """Write all pages; remove those of commands that are gone."""
    PAGES.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in PAGES.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (PAGES / name).write_text(text, encoding="utf-8")


def freeze_flags() -> None:
    """Accept the flags as they are."""
    FLAGS.write_text(json.dumps(flags(), indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Do what the options say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--freeze-flags", action="store_true")
    options = parser.parse_args()
    if options.check:
        names = stale()
        for name in names:
            print(f"docs/cli/{name} is not what the commands say: run `make docs`")
        return 1 if names else 0
    if options.freeze_flags:
        freeze_flags()
    else:
        write()
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
