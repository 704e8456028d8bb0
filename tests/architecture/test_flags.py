"""The command line is frozen: a flag comes or goes on purpose, with a line in CHANGELOG.md.

`python dev/make_docs.py --freeze-flags` accepts a change.
"""

import json

from dev import make_docs


def test_the_flags_of_every_command_are_the_frozen_ones() -> None:
    assert make_docs.flags() == json.loads(make_docs.FLAGS.read_text(encoding="utf-8"))


def test_a_new_flag_would_be_noticed() -> None:
    from tessera.cli.main import app

    @app.command("extra")
    def extra(volume: int = 1) -> None:
        """Do more."""

    try:
        assert make_docs.flags()["tessera extra"] == ["--volume"]
        assert "extra.md" in make_docs.stale()
        assert "README.md" in make_docs.stale()
    finally:
        app.registered_commands.pop()


def test_the_pages_of_the_commands_are_what_the_commands_say() -> None:
    assert make_docs.stale() == []


def test_every_option_and_argument_has_a_help_text() -> None:
    missing = [
        f"{name}: {parameter.name}"
        for name, command in make_docs.commands()
        for parameter in command.params
        if not parameter.help
    ]
    assert missing == []
