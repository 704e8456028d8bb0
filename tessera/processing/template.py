r"""Chat templates: a conversation becomes ids and a train mask in one pass.

Nothing is rendered to a string and searched. Control tokens are placed by id, text is encoded
between them with control tokens disabled, and the mask is set while writing: it marks exactly the
answers and their end tokens.

    <s> <|im_start|> user\n.. <|im_end|> <|im_start|> assistant\n A <|im_end|>
     0       0          0         0            0           0       1     1

An answer is encoded apart from its header, as it is when the model writes it. (internvl_zh marks
its roles by plain words, as its release does, so there a text can imitate a role; in every other
template it cannot.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tessera.errors import ConfigError, PromptError, nearest
from tessera.processing.conversation import Conversation, Message, Picture, Text
from tessera.processing.tokenizer import Place, Tokenizer

IMAGE_START, IMAGE_END, VISUAL_TOKEN = "<img>", "</img>", "<IMG_CONTEXT>"


@dataclass(frozen=True)
class Token:
    """A control token in the frame of a template."""

    name: str


Frame = tuple[Token | str, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """What stands around the parts of a conversation."""

    name: str
    system_message: str  # the one its release was trained with
    before_system: Frame
    after_system: Frame
    before_user: Frame
    after_user: Frame
    before_answer: Frame
    answer_lead: str = ""  # written by the model itself before the answer
    end_token: str  # closes an answer; generation stops there
    after_answer: Frame = ()


@dataclass(frozen=True)
class Rendered:
    """Ids of a conversation; `train_mask` is True where a model learns to write the id."""

    ids: list[int]
    train_mask: list[bool]


def _chatml(name: str, *, system_message: str, between: Frame = ()) -> Template:
    start, end = Token("<|im_start|>"), Token("<|im_end|>")
    return Template(
        name=name,
        system_message=system_message,
        before_system=(start, "system\n"),
        after_system=(end, *between),
        before_user=(start, "user\n"),
        after_user=(end, *between),
        before_answer=(start, "assistant\n"),
        end_token=end.name,
        after_answer=between,
    )


def _phi3() -> Template:
    end = Token("<|end|>")
    return Template(
        name="phi3-chat",
        system_message="You are an AI assistant whose name is Phi-3.",
        before_system=(Token("<|system|>"), "\n"),
        after_system=(end,),
        before_user=(Token("<|user|>"), "\n"),
        after_user=(end,),
        before_answer=(Token("<|assistant|>"), "\n"),
        end_token=end.name,
    )


def _internvl_zh() -> Template:
    return Template(
        name="internvl_zh",
        system_message="",
        before_system=(),
        after_system=(" ",),
        before_user=("<human>: ",),
        after_user=(" ",),
        before_answer=("<bot>:",),
        answer_lead=" ",
        end_token="</s>",
    )


# System messages are those of the 1.2 and 1.5 releases; a config may name another.
TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        _chatml(
            "internlm2-chat",
            system_message="You are an AI assistant whose name is InternLM (书生·浦语).",
        ),
        _chatml("Hermes-2", system_message="Answer the questions."),
        _phi3(),
        _internvl_zh(),
        _chatml("tessera-small", system_message="Answer the questions.", between=("\n",)),
    )
}


def find_template(name: str) -> Template:
    """Return a template by name.

    Raises:
        ConfigError: when there is none of this name.
    """
    if name not in TEMPLATES:
        raise ConfigError(
            f"template {name!r} is unknown; known are {', '.join(TEMPLATES)}."
            f"{nearest(name, TEMPLATES)}"
        )
    return TEMPLATES[name]


def render(
    conversation: Conversation,
    *,
    template: Template | str,
    tokenizer: Tokenizer,
    tile_counts: Sequence[int] = (),
    visual_tokens_per_tile: int = 256,
    system_message: str | None = None,
) -> Rendered:
    """Write a conversation as ids.

    Args:
        conversation: its videos already unfolded to pictures.
        template: one of `TEMPLATES`, or its name.
        tokenizer: of the checkpoint.
        tile_counts: tiles of each picture, thumbnail included, in the order of the pictures.
        visual_tokens_per_tile: placeholders that one tile takes.
        system_message: used where the conversation brings none; None takes the template's.

    Raises:
        PromptError: with both counts when `tile_counts` does not match the pictures.
    """
    if isinstance(template, str):
        template = find_template(template)
    num_pictures = len(conversation.pictures)
    if num_pictures != len(tile_counts):
        raise PromptError(
            f"the conversation shows {num_pictures} pictures and tile counts are given for "
            f"{len(tile_counts)}; give one count for each picture"
        )
    if any(count < 1 for count in tile_counts):
        raise PromptError(
            f"tile counts {list(tile_counts)} are wrong: every picture has at least one"
        )
    counts = iter(tile_counts)
    writer = _Writer(tokenizer)
    for message in _with_system(conversation, template, system_message):
        if message.role == "assistant":
            writer.frame(template.before_answer)
            writer.text(template.answer_lead + message.text, trained=True)
            writer.token(template.end_token, trained=True)
            writer.frame(template.after_answer)
            continue
        is_user = message.role == "user"
        writer.frame(template.before_user if is_user else template.before_system)
        for part in message.parts:
            if isinstance(part, Text):
                writer.text(part.text)
            elif isinstance(part, Picture):
                writer.picture(next(counts) * visual_tokens_per_tile)
            else:
                raise PromptError("a video must be unfolded to frames before it is rendered")
        writer.frame(template.after_user if is_user else template.after_system)
    if conversation.awaits_answer:
        writer.frame(template.before_answer)
    return writer.finish()


def _with_system(
    conversation: Conversation, template: Template, system_message: str | None
) -> Iterator[Message]:
    if conversation.messages[0].role != "system":
        text = template.system_message if system_message is None else system_message
        yield Message("system", (Text(text),))
    yield from conversation.messages


@dataclass
class _Writer:
    """Collects ids; text waits in a run until a token ends it, to be encoded in one piece."""

    tokenizer: Tokenizer
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    run: list[tuple[str, bool]] = field(default_factory=list)
    swallows_blanks: bool = False  # the last token takes the blanks to its right
    place: Place = "start"

    def __post_init__(self) -> None:
        if self.tokenizer.bos_id is not None:
            self._put(self.tokenizer.bos_id, False)

    def frame(self, pieces: Frame) -> None:
        for piece in pieces:
            if isinstance(piece, Token):
                self.token(piece.name)
            else:
                self.text(piece)

    def text(self, text: str, *, trained: bool = False) -> None:
        if self.run and self.run[-1][1] == trained:
            text = self.run.pop()[0] + text
        self.run.append((text, trained))

    def token(self, name: str, *, trained: bool = False) -> None:
        token_id = self.tokenizer.token_id(name)
        added = self.tokenizer.added.get(name)
        self._end_run(strip_right=bool(added and added.lstrip))
        self._put(token_id, trained)
        self.swallows_blanks = bool(added and added.rstrip)
        self.place = "after_token"

    def picture(self, num_visual_tokens: int) -> None:
        self.token(IMAGE_START)
        visual_id = self.tokenizer.token_id(VISUAL_TOKEN)
        self.ids += [visual_id] * num_visual_tokens
        self.mask += [False] * num_visual_tokens
        self.token(IMAGE_END)

    def finish(self) -> Rendered:
        self._end_run(strip_right=False)
        return Rendered(self.ids, self.mask)

    def _end_run(self, *, strip_right: bool) -> None:
        last = len(self.run) - 1
        for index, (text, trained) in enumerate(self.run):
            if self.swallows_blanks:
                text = text.lstrip()
            if strip_right and index == last:
                text = text.rstrip()
            if not text:
                continue
            self.swallows_blanks = False
            for token_id in self.tokenizer.encode(text, place=self.place):
                self._put(token_id, trained)
            self.place = "after_text"
        self.run.clear()

    def _put(self, token_id: int, trained: bool) -> None:
        self.ids.append(token_id)
        self.mask.append(trained)
