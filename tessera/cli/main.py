"""`tessera`: the commands, and the one place where a mistake of the user becomes one line."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

import tessera
from tessera.cli import bench, cache, chat, check, doctor, info, run
from tessera.errors import UserError

TRACEBACK = "--traceback"

app = typer.Typer(
    name="tessera",
    help="InternVL-Chat 1.5 in one small package: ask about pictures, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("chat")(chat.chat)
app.command("run")(run.run)
app.command("info")(info.info)
app.command("check")(check.check)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.add_typer(cache.app, name="cache")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tessera {tessera.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    traceback: Annotated[
        bool, typer.Option(TRACEBACK, help="Show where an error came from (with any command).")
    ] = False,
) -> None:
    """Take what is common to all commands."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 differences or nothing answered, 2 a user's mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    limit = words.index("--") if "--" in words else len(words)
    wants_traceback = TRACEBACK in words[:limit]
    words = [word for word in words[:limit] if word != TRACEBACK] + words[limit:]
    if sys.stdout is None:  # closed by the caller
        _complain("stdout is closed: send it to a file")
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character
    sys.exit(_run(words, wants_traceback=wants_traceback))


def _run(words: list[str], *, wants_traceback: bool) -> int:
    try:
        code = app(words, prog_name="tessera", standalone_mode=False)
    except UserError as error:
        if wants_traceback:
            raise
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("stopped")
        return 130
    except typer.Abort:
        _complain("stopped")
        return 130
    except BrokenPipeError:  # `| head` has read enough
        _abandon_stdout()
        return 1
    except Exception as error:
        if wants_traceback or not _explain(error):
            raise
        return 2
    return code if isinstance(code, int) else 0


def _abandon_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> bool:
    """Tell what is wrong with the command line or with stdout; False if it is neither."""
    usage = _usage_message(error)
    if type(error).__name__ == "NoArgsIsHelpError":  # its text is the whole help
        typer.echo(str(error), err=True)
    elif usage is not None:
        _complain(usage)
    elif isinstance(error, OSError) and error.filename is None and error.errno in _STDOUT_FAILS:
        _abandon_stdout()
        _complain(f"stdout cannot be written ({error.strerror}): make room, or send it elsewhere")
    else:
        return False
    return True


def _usage_message(error: Exception) -> str | None:
    """Return what is wrong with the command line, if that is what the error says."""
    usage_errors = tuple(kind for kind in typer.BadParameter.__mro__ if kind.__name__ in _USAGE)
    if not isinstance(error, usage_errors):
        return None
    message = error.format_message()  # type: ignore[attr-defined]
    command = getattr(getattr(error, "ctx", None), "command_path", "tessera")
    return f"{message.rstrip('.')} (see `{command} --help`)"


_STDOUT_FAILS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
_USAGE = ("UsageError", "ClickException")


def _complain(message: str) -> None:
    typer.echo(f"tessera: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()
