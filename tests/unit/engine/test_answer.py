from __future__ import annotations

import random

from tessera.engine.answer import RowWriter
from tessera.engine.generate import GeneratedToken

END = 0


class ByteText:
    """An id is a byte; a character is shown when its last byte has come."""

    def __init__(self) -> None:
        self.held = b""

    def push(self, token_id: int) -> str:
        self.held += bytes([token_id])
        try:
            text, self.held = self.held.decode(), b""
        except UnicodeDecodeError:
            return ""
        return text

    def finish(self) -> str:
        text, self.held = self.held.decode(errors="replace"), b""
        return text


def write(
    data: bytes, *, stop: tuple[str, ...] = (), budget: int = 1000
) -> tuple[list[str], RowWriter]:
    writer = RowWriter(ByteText(), stop=stop, stop_ids=(END,), budget=budget, is_clipped=False)
    pieces = []
    for byte in data:
        pieces.append(writer.push(GeneratedToken(byte, -1.0)))
        if writer.finish_reason is not None:
            break
    return pieces, writer


def test_characters_come_whole_and_the_stop_token_is_no_text() -> None:
    pieces, writer = write("猫 ok".encode() + bytes([END]))
    assert pieces == ["", "", "猫", "", " o", "k", ""]
    assert writer.text == "猫 ok"
    assert writer.finish_reason == "stop"
    assert len(writer.tokens) == 7


def test_white_space_at_either_end_is_never_shown() -> None:
    pieces, writer = write(b" \n a  b \n\x00")
    assert "".join(pieces) == writer.text == "a  b"


def test_a_stop_string_ends_the_answer_before_itself() -> None:
    pieces, writer = write(b"yes ###no", stop=("###",))
    assert "".join(pieces) == writer.text == "yes"
    assert writer.finish_reason == "stop"
    assert len(writer.tokens) == 7


def test_the_budget_ends_with_length_and_shows_what_was_held() -> None:
    pieces, writer = write(b"abc ##def", stop=("###",), budget=6)
    assert "".join(pieces) == writer.text == "abc ##"
    assert writer.finish_reason == "length"


def test_an_interrupted_answer_shows_half_a_character_as_a_replacement() -> None:
    pieces, writer = write("ab猫".encode()[:-1])
    assert writer.finish("stopped by user") == "�"
    assert writer.finish("length") == ""
    assert writer.finish_reason == "stopped by user"
    assert writer.text == "ab�"


def test_random_texts_are_shown_stripped_and_whole() -> None:
    dice = random.Random(1)
    for _ in range(500):
        text = "".join(dice.choice("ab \n猫😀#") for _ in range(dice.randrange(20)))
        pieces, writer = write(text.encode() + bytes([END]), stop=("##",))
        assert "".join(pieces) == writer.text == text.split("##")[0].strip()
