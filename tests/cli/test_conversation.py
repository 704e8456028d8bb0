"""`tessera chat` without a question: a conversation, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_a_conversation_remembers_shows_pictures_and_is_saved(
    tessera: Run, model: list[str], picture: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "talk.json"
    script = f"Hello\n/image {picture}\n\nWhat is it?\n/save {saved}\n/clear\nHello\n/exit\nno\n"
    ran = tessera("chat", *model, "--json", stdin=script.encode())
    first, second, third = map(json.loads, ran.out.splitlines())
    assert second["prompt_tokens"] > first["prompt_tokens"] + first["answer_tokens"]
    assert second["images"] == [str(picture)]
    assert third["answer"] == first["answer"]
    assert third["prompt_tokens"] == first["prompt_tokens"]
    turns = json.loads(saved.read_text(encoding="utf-8"))["turns"]
    assert [turn["question"] for turn in turns] == ["Hello", "What is it?"]
    assert turns[1]["answer"] == second["answer"]


def test_pictures_named_before_a_conversation_belong_to_its_first_question(
    tessera: Run, model: list[str], picture: Path
) -> None:
    ran = tessera("chat", picture, *model, "--json", stdin=b"What?\nAnd now?\n")
    first, second = map(json.loads, ran.out.splitlines())
    assert first["images"] == [str(picture)]
    assert second["images"] == []
    assert second["visual_tokens"] == first["visual_tokens"]


def test_a_mistake_in_a_conversation_does_not_end_it(
    tessera: Run, model: list[str], tmp_path: Path
) -> None:
    there = tmp_path / "there.json"
    there.write_text("mine")
    script = (
        f"/image gone.png\n/imag x\n/save\n/save {there}\n/save {tmp_path}/no/x\n/help\nHello\n"
    )
    ran = tessera("chat", *model, stdin=script.encode())
    assert ran.code == 0
    assert ran.out.strip()
    for told in (
        "gone.png does not exist",
        "no command '/imag'. Did you mean '/image'?",
        "/save needs a file name",
        "exists: give another name",
        "cannot be written (No such file or directory)",
        "/clear starts afresh",
    ):
        assert told in ran.err
    assert there.read_text() == "mine"


def test_a_picture_that_cannot_be_used_does_not_spoil_the_next_question(
    tessera: Run, model: list[str], picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    crowd = "".join(f"/image {picture}\n" for _ in range(40))
    script = f"/image {tmp_path}/empty.mp4\nHello\n{crowd}What?\nAnd now?\n"
    ran = tessera("chat", *model, "--json", stdin=script.encode())
    first, last = map(json.loads, ran.out.splitlines())
    assert (first["images"], last["images"]) == ([], [])
    assert last["question"] == "And now?"
    assert "empty.mp4 is empty (0 bytes), not a video" in ran.err
    assert "(/image shows it again)" in ran.err


def test_a_file_typed_as_a_line_is_not_sent_as_words(
    tessera: Run, model: list[str], picture: Path
) -> None:
    script = f"{picture}\n/\n/{'a' * 6000}\n/image {'a' * 6000}\n"
    ran = tessera("chat", *model, stdin=script.encode())
    assert (ran.code, ran.out) == (0, "")
    assert f"/image {picture} shows it" in ran.err
    assert "no command '/'" in ran.err


def test_ctrl_c_while_a_picture_is_cut_does_not_end_the_conversation(
    tessera: Run, model: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.assistant import Assistant

    stream, calls = Assistant.stream, []

    def interrupted(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return stream(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Assistant, "stream", interrupted)
    ran = tessera("chat", *model, stdin=b"One\nTwo\n")
    assert ran.code == 0
    assert "stopped" in ran.err
    assert ran.out.strip()


def test_what_was_said_is_saved_even_if_it_is_no_text(
    tessera: Run, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["na\udcefve", f"/save {tmp_path}/talk.json"])

    def typed(prompt: str = "") -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    ran = tessera("chat", *model)
    assert ran.code == 0, ran
    assert [path.name for path in tmp_path.glob("*talk*")] + [
        path.name for path in tmp_path.glob(".*part")
    ] == ["talk.json"]
    assert json.loads((tmp_path / "talk.json").read_text())["turns"][0]["question"] == "na\udcefve"


class _Interrupted:
    """A stream that the user stops after its first piece."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.is_closed = False

    def __iter__(self) -> Iterator[str]:
        yield "half an"
        raise KeyboardInterrupt

    def close(self) -> None:
        self.is_closed = True


def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    tessera: Run, model: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from tessera.assistant import Assistant

    stream = Assistant.stream
    given: list[_Interrupted] = []

    def first_is_stopped(self: Assistant, *words: object, **options: object) -> object:
        real = stream(self, *words, **options)  # type: ignore[arg-type]
        if given:
            return real
        answer = replace(real.answer, text="half an", finish_reason="stopped by user")
        given.append(_Interrupted(answer))
        return given[0]

    monkeypatch.setattr(Assistant, "stream", first_is_stopped)
    ran = tessera("chat", *model, "--verbose", stdin=b"One\nTwo\n")
    assert ran.code == 0
    assert ran.out.startswith("half an\n")
    assert given[0].is_closed
    assert len(ran.out.splitlines()) >= 2
    assert "stopped by user" in ran.err
    given.clear()
    assert tessera("chat", "One", *model).code == 130
