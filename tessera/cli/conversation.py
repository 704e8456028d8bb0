"""The interactive part of `tessera chat`: turns, slash commands, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tessera.cli.loading import say
from tessera.cli.pictures import Shown, parts_of, show
from tessera.errors import UserError, nearest

if TYPE_CHECKING:
    from tessera.cli.speaker import Speaker
    from tessera.processing.conversation import Conversation

COMMANDS = ("/image", "/clear", "/save", "/help", "/exit")
_HELP = "/image FILE shows a picture | /clear starts afresh | /save FILE | /exit or Ctrl-D ends"


@dataclass
class Session:
    """What was said and shown so far."""

    system: str | None = None
    waiting: list[Shown] = field(default_factory=list)  # pictures of the next question
    conversation: Conversation | None = None
    turns: list[dict[str, object]] = field(default_factory=list)

    def with_question(self, question: str) -> Conversation:
        """Return the conversation with a question and the waiting pictures behind it."""
        from tessera.processing.conversation import Conversation

        pictures = parts_of(self.waiting)
        if self.conversation is None:
            return Conversation.user(question, pictures, system=self.system)
        return self.conversation.ask(question, pictures)

    def clear(self) -> None:
        """Forget everything."""
        self.waiting, self.conversation, self.turns = [], None, []


def converse(session: Session, speaker: Speaker) -> None:
    """Read questions until the input ends."""
    if sys.stdin is None:
        raise UserError("stdin is closed, so there is no conversation: give a question in quotes")
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        _enable_line_editing()
        say(_HELP)
    while True:
        try:
            line = input("> " if is_terminal else "").strip()
        except EOFError:
            break
        except KeyboardInterrupt:
            say("\nCtrl-D or /exit ends the conversation")
            continue
        if line == "/exit":
            break
        if not line:
            continue
        try:
            _take(line, session, speaker)
        except KeyboardInterrupt:  # while a picture was opened or cut, before the first word
            say("stopped")
    if is_terminal:
        typer.echo()


def _enable_line_editing() -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  importing it is what makes arrow keys work in input()


def _take(line: str, session: Session, speaker: Speaker) -> None:
    """Obey a command or answer a question; a mistake is told and the conversation goes on."""
    try:
        if _is_file(line):
            raise UserError(f"{line} is a file: /image {line} shows it")
        if line.startswith("/") and not _is_file(line.split()[0]):
            _obey(line, session)
        else:
            _answer(line, session, speaker)
    except UserError as error:
        say(f"tessera: {error}")


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a question may be too long for a file name
        return False


def _answer(question: str, session: Session, speaker: Speaker) -> None:
    conversation = session.with_question(question)
    names = [item.name for item in session.waiting]
    session.waiting = []  # one that cannot be used must not spoil every later question
    try:
        answer = speaker.answer(conversation, question=question, images=names)
    except (UserError, KeyboardInterrupt):
        if names:
            say(f"not shown: {', '.join(names)} (/image shows it again)")
        raise
    session.conversation = conversation.reply(answer.text)
    session.turns.append({"images": names, "question": question, "answer": answer.text})


def _obey(line: str, session: Session) -> None:
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command == "/image":
        if not rest:
            raise UserError("/image needs a file")
        session.waiting.append(show(rest))
        say(f"{rest} is shown with the next question")
    elif command == "/clear":
        session.clear()
        say("cleared")
    elif command == "/save":
        _save(rest, session)
    elif command == "/help":
        say(_HELP)
    else:
        raise UserError(f"no command {command[:40]!r}.{nearest(command, COMMANDS)} {_HELP}")


def _save(name: str, session: Session) -> None:
    if not name:
        raise UserError("/save needs a file name")
    path = Path(os.path.expanduser(name))
    content = {"system": session.system, "turns": session.turns}
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    partial = path.with_name(f".{path.name}.part")
    try:
        if path.exists():
            raise UserError(f"{path} exists: give another name")
        try:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give another name") from None
    say(f"saved {len(session.turns)} turns in {path}")
