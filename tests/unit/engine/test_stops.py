from __future__ import annotations

import random

import pytest

from tessera.engine.stops import StopText
from tessera.errors import ConfigError


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    filter_ = StopText(stops)
    text = "".join(filter_.push(piece) for piece in pieces)
    return text + filter_.finish(), filter_.is_found


def naive(text: str, stops: list[str]) -> tuple[str, bool]:
    """Add one character at a time until the text ends with a stop string."""
    for end in range(1, len(text) + 1):
        matching = [stop for stop in stops if text[:end].endswith(stop)]
        if matching:
            return text[: end - len(max(matching, key=len))], True
    return text, False


def test_nothing_of_a_stop_string_is_ever_shown() -> None:
    filter_ = StopText(["</answer>"])
    assert [filter_.push(piece) for piece in ["a <", "/ans", "wer", "> b"]] == ["a ", "", "", ""]
    assert filter_.is_found
    assert filter_.push("more") == ""
    assert filter_.finish() == ""


def test_a_beginning_that_comes_to_nothing_is_shown_later() -> None:
    filter_ = StopText(["</answer>"])
    assert [filter_.push("x</a"), filter_.push("bout>"), filter_.finish()] == ["x", "</about>", ""]
    assert StopText(["ab"]).push("a") == ""


def test_what_is_held_at_the_end_is_shown_by_finish() -> None:
    assert shown(["one tw"], ["two"]) == ("one tw", False)


def test_random_texts_in_random_pieces_agree_with_the_naive_search() -> None:
    dice = random.Random(3)
    for _ in range(3000):
        text = "".join(dice.choice("aab c") for _ in range(dice.randrange(25)))
        stops = [
            "".join(dice.choice("ab c") for _ in range(dice.randrange(1, 5)))
            for _ in range(dice.randrange(4))
        ]
        cuts = sorted(dice.randrange(len(text) + 1) for _ in range(dice.randrange(6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert shown(pieces, stops) == naive(text, stops), (pieces, stops)


@pytest.mark.parametrize("stops", [[""], ["x" * 1001], [5], ["x"] * 17], ids=lambda s: str(s)[:12])
def test_unusable_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(ConfigError, match="stop string"):
        StopText(stops)
