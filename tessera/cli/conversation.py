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
        if line:
            _take(line, session, speaker)
    if is_terminal:
        typer.echo()


def _enable_line_editing() -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  importing it is what makes arrow keys work in input()


def _take(line: str, session: Session, speaker: Speaker) -> None:
    """Obey a command or answer a question; a mistake is told and the conversation goes on."""
    try:
        if line.startswith("/") and not Path(line.split()[0]).exists():
            _obey(line, session)
        else:
            _answer(line, session, speaker)
    except UserError as error:
        say(f"tessera: {error}")


def _answer(question: str, session: Session, speaker: Speaker) -> None:
    conversation = session.with_question(question)
    names = [item.name for item in session.waiting]
    answer = speaker.answer(conversation, question=question, images=names)
    session.conversation = conversation.reply(answer.text)
    session.waiting = []
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
        raise UserError(f"no command {command!r}.{nearest(command, COMMANDS)} {_HELP}")


def _save(name: str, session: Session) -> None:
    if not name:
        raise UserError("/save needs a file name")
    path = Path(name).expanduser()
    content = {"system": session.system, "turns": session.turns}
    partial = path.with_name(f".{path.name}.part")
    try:
        if path.exists():
            raise UserError(f"{path} exists: give another name")
        partial.write_text(
            json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give another name") from None
    say(f"saved {len(session.turns)} turns in {path}")
