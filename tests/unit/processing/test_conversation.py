from __future__ import annotations

import pytest
from PIL import Image

from tessera.errors import PromptError
from tessera.processing.conversation import (
    Conversation,
    Message,
    Picture,
    Text,
    Video,
    from_sharegpt,
)

A, B = b"picture a", b"picture b"


def words(conversation: Conversation) -> str:
    """The conversation as published prompts write it, for reading in tests only."""
    shown = {Picture: "<image>", Video: "<video>"}
    return "|".join(
        "".join(p.text if isinstance(p, Text) else shown[type(p)] for p in message.parts)
        for message in conversation.messages
    )


def test_a_picture_without_a_place_comes_before_the_question() -> None:
    conversation = Conversation.user("What is it?", [A])
    assert words(conversation) == "<image>\nWhat is it?"
    assert conversation.pictures == (Picture(A),)
    assert conversation.awaits_answer


def test_several_pictures_are_numbered_as_published() -> None:
    conversation = Conversation.user("Compare.", [A, B])
    assert words(conversation) == "Image-1: <image>\nImage-2: <image>\nCompare."


def test_placeholders_take_the_pictures_in_order() -> None:
    conversation = Conversation.user("left <image>, right <image>!", [A, Picture(B, max_tiles=2)])
    assert words(conversation) == "left <image>, right <image>!"
    assert conversation.pictures == (Picture(A), Picture(B, max_tiles=2))


def test_counts_that_differ_are_both_named() -> None:
    with pytest.raises(PromptError, match="2 <image> and 1 pictures"):
        Conversation.user("<image><image>", [A])


def test_a_typed_placeholder_without_pictures_is_text() -> None:
    conversation = Conversation.user("What does <image> mean?")
    assert conversation.pictures == ()
    assert conversation.messages[0].parts == (Text("What does <image> mean?"),)


def test_text_parts_are_never_read_for_placeholders() -> None:
    message = Message("user", (Picture(A), Text("<image>")))
    assert Conversation((message,)).pictures == (Picture(A),)


def test_a_single_source_may_stand_for_a_list() -> None:
    image = Image.new("RGB", (4, 4))
    assert Conversation.user("?", "cat.png").pictures == (Picture("cat.png"),)
    assert Conversation.user("?", image).pictures[0].source is image


def test_a_video_comes_first_and_brings_its_own_labels() -> None:
    conversation = Conversation.user("What happens?", [Video("film.mp4", num_frames=4)])
    assert words(conversation) == "<video>What happens?"


def test_turns_are_added_to_a_new_conversation() -> None:
    first = Conversation.user("One?", system="Be brief.")
    second = first.reply("1").ask("Two?", [A])
    assert words(second) == "Be brief.|One?|1|<image>\nTwo?"
    assert len(first.messages) == 2
    assert not first.reply("1").awaits_answer


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ([], "no user message"),
        (["system"], "no user message"),
        (["assistant"], "message 1 of 1 is from 'assistant' where 'user'"),
        (["user", "user"], "message 2 of 2 is from 'user' where 'assistant'"),
        (["system", "user", "assistant", "assistant"], "message 4 of 4"),
        (["user", "system"], "message 2 of 2 is from 'system'"),
        (["system", "system", "user"], "message 2 of 3 is from 'system'"),
    ],
)
def test_roles_out_of_order_are_named(roles: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Conversation(tuple(Message(role, "x") for role in roles))  # type: ignore[arg-type]


def test_an_unknown_role_names_the_nearest() -> None:
    with pytest.raises(PromptError, match="'asistant'.*Did you mean 'assistant'"):
        Message("asistant", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Text(3),
        lambda: Picture(None),
        lambda: Picture(""),
        lambda: Picture(A, max_tiles=0),
        lambda: Picture(A, max_tiles=True),
        lambda: Picture(A, max_tiles=1.5),
        lambda: Video("v.mp4", num_frames=-1),
        lambda: Message("user", (3,)),
        lambda: Message("assistant", (Picture(A),)),
        lambda: Message("system", (Video("v.mp4"),)),
    ],
)
def test_parts_are_checked_when_they_are_made(make: object) -> None:
    with pytest.raises(PromptError):
        make()  # type: ignore[operator]


def test_published_samples_read_placeholders_left_to_right() -> None:
    sample = [
        {"from": "human", "value": "<image>\nFirst, then <image>"},
        {"from": "gpt", "value": "fine, an <image>"},
        {"from": "human", "value": "and <image>?"},
        {"from": "gpt", "value": "yes"},
    ]
    conversation = from_sharegpt(sample, [A, B, b"c"])
    assert words(conversation) == "<image>\nFirst, then <image>|fine, an <image>|and <image>?|yes"
    assert [p.source for p in conversation.pictures] == [A, B, b"c"]


def test_a_published_sample_without_placeholders_shows_its_picture_first() -> None:
    sample = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}]
    assert words(from_sharegpt(sample, [A])) == "S|<image>\nQ"


def test_a_published_sample_loses_a_leading_answer() -> None:
    sample = [{"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Q"}]
    assert words(from_sharegpt(sample)) == "Q"


def test_a_published_sample_without_pictures_keeps_its_words() -> None:
    assert from_sharegpt([{"from": "human", "value": "an <image>"}]).pictures == ()


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"from": "human", "value": "<image>"}], "1 <image> in its human turns and 2 pictures"),
        ([{"from": "humen", "value": "x"}], "'humen'.*Did you mean 'human'"),
        ([{"from": "human"}], "NoneType as its value"),
        (["x"], "turn 1 is str"),
        ([], "no user message"),
    ],
)
def test_a_malformed_sample_is_an_error(turns: list[object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        from_sharegpt(turns, [A, B])  # type: ignore[arg-type]
