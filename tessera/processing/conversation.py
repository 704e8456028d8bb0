"""A conversation: messages of typed parts, checked when it is made.

Text is content and never searched for roles or control tokens: `<image>` typed inside a `Text`
stays those seven characters. Only the constructors for people and published data
(`Conversation.user`, `Conversation.ask`, `from_sharegpt`) read `<image>` as a place for a picture,
and only when pictures are given with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tessera.errors import PromptError, nearest

Role = Literal["system", "user", "assistant"]
PLACEHOLDER = "<image>"
_SHAREGPT_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Text:
    """Words, exactly as they are."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise PromptError(
                f"a text part holds {type(self.text).__name__}, not a string; give a str"
            )


@dataclass(frozen=True)
class Picture:
    """A picture: a path, the bytes of a file, or a PIL image. URLs are the caller's to fetch."""

    source: Any
    max_tiles: int | None = None  # None: the limit of the call, or of the model

    def __post_init__(self) -> None:
        if self.source is None or (isinstance(self.source, str | bytes) and not self.source):
            raise PromptError(
                "a picture part is empty; give a path, the bytes of a file or a PIL image"
            )
        _require_positive(self.max_tiles, "max_tiles of a picture")


@dataclass(frozen=True)
class Video:
    """A film: a file or a folder of frames. It becomes `num_frames` pictures of one tile each."""

    source: Any
    num_frames: int = 8

    def __post_init__(self) -> None:
        _require_positive(self.num_frames, "num_frames of a video")


Part = Text | Picture | Video


@dataclass(frozen=True)
class Message:
    """What one side says: parts in the order in which the model reads them.

    A bare string is taken as one `Text`. Only a user shows pictures.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise PromptError(
                f"message role {self.role!r} is none of system, user, assistant."
                f"{nearest(str(self.role), get_args(Role))}"
            )
        given = (Text(self.parts),) if isinstance(self.parts, str) else tuple(self.parts)
        for part in given:
            if not isinstance(part, Part):
                raise PromptError(
                    f"a {self.role} message holds {type(part).__name__}; "
                    "its parts are Text, Picture or Video"
                )
            if self.role != "user" and not isinstance(part, Text):
                raise PromptError(
                    f"a {self.role} message holds a {type(part).__name__.lower()}; "
                    "only user messages show pictures"
                )
        object.__setattr__(self, "parts", given)

    @property
    def text(self) -> str:
        """The words of the message, pictures left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then user and assistant in turn.

    One that ends with the user waits for an answer; one that ends with the assistant is a
    training sample.

    Raises:
        PromptError: when it is empty or the roles do not alternate.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        messages = tuple(self.messages)
        object.__setattr__(self, "messages", messages)
        turns = messages[1:] if messages and messages[0].role == "system" else messages
        if not turns:
            raise PromptError("a conversation holds no user message; add one")
        for index, message in enumerate(turns):
            expected = "user" if index % 2 == 0 else "assistant"
            if message.role != expected:
                place = index + 1 + len(messages) - len(turns)
                raise PromptError(
                    f"message {place} of {len(messages)} is from {message.role!r} where "
                    f"{expected!r} must follow: an optional system message comes first, "
                    "then user and assistant alternate"
                )

    @classmethod
    def user(
        cls, text: str, pictures: Iterable[Any] = (), *, system: str | None = None
    ) -> Conversation:
        """Make a conversation of one question.

        Args:
            text: the question. With pictures, each `<image>` in it is the place of one; without any
                `<image>` the pictures come first, worded as the published chat does.
            pictures: sources, `Picture`s or `Video`s.
            system: replaces the system message of the model.
        """
        head = () if system is None else (Message("system", (Text(system),)),)
        return cls((*head, Message("user", place_pictures(text, pictures))))

    def reply(self, text: str) -> Conversation:
        """Return the conversation with an answer of the assistant behind it."""
        return Conversation((*self.messages, Message("assistant", (Text(text),))))

    def ask(self, text: str, pictures: Iterable[Any] = ()) -> Conversation:
        """Return the conversation with another question behind it (pictures as in `user`)."""
        return Conversation((*self.messages, Message("user", place_pictures(text, pictures))))

    @property
    def pictures(self) -> tuple[Picture | Video, ...]:
        """Pictures and videos in the order in which the model reads them."""
        return tuple(p for m in self.messages for p in m.parts if not isinstance(p, Text))

    @property
    def awaits_answer(self) -> bool:
        """Whether the user spoke last."""
        return self.messages[-1].role == "user"


def place_pictures(text: str, pictures: Iterable[Any]) -> tuple[Part, ...]:
    """Put pictures where `<image>` stands, or in front where it stands nowhere.

    Raises:
        PromptError: with both counts when there are placeholders, but not one for each picture.
    """
    shown = [p if isinstance(p, Picture | Video) else Picture(p) for p in _as_list(pictures)]
    if not shown:
        return (Text(text),)
    num_places = text.count(PLACEHOLDER)
    if num_places == 0:
        return (*_lead(shown), Text(text))
    if num_places != len(shown):
        raise PromptError(
            f"the text has {num_places} {PLACEHOLDER} and {len(shown)} pictures were given; "
            "write one for each, or none to put the pictures first"
        )
    return _fill(text, iter(shown))


def from_sharegpt(turns: Sequence[Mapping[str, Any]], pictures: Sequence[Any] = ()) -> Conversation:
    """Read the `conversations` of one line of the published JSONL.

    Human `<image>` placeholders take the pictures left to right over all turns; a sample with
    pictures and no placeholder shows them before the first question. A leading answer is dropped,
    as published.

    Raises:
        PromptError: on unknown roles, turns out of order, or counts that differ.
    """
    read = [_read_turn(turn, index) for index, turn in enumerate(turns)]
    first = 1 if read and read[0][0] == "system" else 0
    if len(read) > first and read[first][0] == "assistant":
        del read[first]
    shown = [p if isinstance(p, Picture | Video) else Picture(p) for p in _as_list(pictures)]
    num_places = sum(text.count(PLACEHOLDER) for role, text in read if role == "user")
    if shown and num_places not in (0, len(shown)):
        raise PromptError(
            f"the sample has {num_places} {PLACEHOLDER} in its human turns and {len(shown)} "
            "pictures; make the counts equal"
        )
    messages = []
    waiting = iter(shown)
    for index, (role, text) in enumerate(read):
        if role != "user" or not shown:
            messages.append(Message(role, (Text(text),)))
        elif num_places:
            messages.append(Message(role, _fill(text, waiting)))
        else:
            lead = _lead(shown) if index == first else ()
            messages.append(Message(role, (*lead, Text(text))))
    return Conversation(tuple(messages))


def _read_turn(turn: Mapping[str, Any], index: int) -> tuple[Role, str]:
    if not isinstance(turn, Mapping):
        raise PromptError(
            f"turn {index + 1} is {type(turn).__name__}, not an object with from and value"
        )
    name, value = turn.get("from"), turn.get("value")
    role = _SHAREGPT_ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise PromptError(
            f"turn {index + 1} is from {name!r}, which is none of {', '.join(_SHAREGPT_ROLES)}."
            f"{nearest(str(name), _SHAREGPT_ROLES)}"
        )
    if not isinstance(value, str):
        raise PromptError(
            f"turn {index + 1} has {type(value).__name__} as its value; give a string"
        )
    return role, value


def _lead(shown: list[Picture | Video]) -> tuple[Part, ...]:
    """Word the pictures before a question as the published chat and its examples do."""
    num_pictures = sum(isinstance(item, Picture) for item in shown)
    parts: list[Part] = []
    count = 0
    for item in shown:
        if isinstance(item, Video):
            parts.append(item)  # its frames bring their own labels and line ends
            continue
        count += 1
        if num_pictures > 1:
            parts.append(Text(f"Image-{count}: "))
        parts += [item, Text("\n")]
    return tuple(parts)


def _fill(text: str, waiting: Iterable[Picture | Video]) -> tuple[Part, ...]:
    pieces = text.split(PLACEHOLDER)
    parts: list[Part] = [Text(pieces[0])] if pieces[0] else []
    for piece, item in zip(pieces[1:], waiting, strict=False):
        parts.append(item)
        if piece:
            parts.append(Text(piece))
    return tuple(parts)


def _as_list(pictures: Iterable[Any]) -> list[Any]:
    if isinstance(pictures, str | bytes) or not isinstance(pictures, Iterable):
        return [pictures]  # one picture where a list was expected is clear enough
    return list(pictures)


def _require_positive(value: int | None, what: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise PromptError(f"{what} is {value!r}; give a whole number of at least 1")
