from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import sentencepiece
from safetensors.numpy import load_file

from tessera.errors import ConfigError, PromptError
from tessera.processing.conversation import Conversation, Message, Picture, Text, from_sharegpt
from tessera.processing.template import TEMPLATES, find_template, render
from tessera.processing.tokenizer import Tokenizer
from tests.unit.processing.tokenizer_tools import CHAT_CASES, published_ids, write_directory

PICTURE = b"a picture"
CHATML = ("<|im_start|>", "<|im_end|>")
PHI3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


@dataclass(frozen=True)
class Case:
    directory: Path
    tokenizer: Tokenizer
    golden: dict
    config: dict

    def render(self, conversation: Conversation, **changes: object):
        options = {
            "template": self.config["template"],
            "tokenizer": self.tokenizer,
            "tile_counts": [self.golden["num_tiles"]] * len(conversation.pictures),
            "visual_tokens_per_tile": self.golden["num_image_token"],
            "system_message": self.config["system_message"],
        }
        return render(conversation, **(options | changes))

    def published(self, prompt: str) -> list[int]:
        """Ids of the published code for a prompt in which pictures are still placeholders."""
        count = self.golden["num_tiles"] * self.golden["num_image_token"]
        library = sentencepiece.SentencePieceProcessor(
            model_file=str(self.directory / "tokenizer.model")
        )
        tokens = "<img>" + "<IMG_CONTEXT>" * count + "</img>"
        return published_ids(self.directory, prompt.replace("<image>", tokens), library)


@pytest.fixture(params=CHAT_CASES)
def case(golden: Path, request: pytest.FixtureRequest) -> Case:
    folder = golden / request.param
    return Case(
        folder,
        Tokenizer.from_directory(folder),
        json.loads((folder / "golden.json").read_text()),
        json.loads((folder / "config.json").read_text()),
    )


@pytest.fixture(scope="module")
def plain(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The golden vocabulary with the tokens of every template added."""
    names = ["<img>", "</img>", "<IMG_CONTEXT>", "<ref>", "</ref>", *CHATML, *PHI3]
    model = (golden / "chat-6b-yi" / "tokenizer.model").read_bytes()
    folder = tmp_path_factory.mktemp("plain")
    added = {name: 3000 + index for index, name in enumerate(names)}
    return Tokenizer.from_directory(write_directory(folder, model, added=added, rstrip=PHI3))


def read(tokenizer: Tokenizer, ids: list[int]) -> str:
    return "".join(tokenizer.decode([i], skip_special=False) for i in ids)


# Against the reference ---------------------------------------------------------------------------


def test_questions_give_the_ids_of_the_reference(case: Case) -> None:
    numbers = load_file(case.directory / "golden.safetensors")
    for index, prompt in enumerate(case.golden["prompts"]):
        rendered = case.render(Conversation.user(prompt["question"], [PICTURE]))
        assert rendered.ids == numbers[f"input_ids_{index}"].ravel().tolist()
        assert not any(rendered.train_mask)


def test_a_training_sample_gives_the_ids_and_labels_of_the_reference(case: Case) -> None:
    numbers = load_file(case.directory / "golden.safetensors")
    rendered = case.render(from_sharegpt(case.golden["conversations"], [PICTURE]))
    pairs = zip(rendered.ids, rendered.train_mask, strict=True)
    assert rendered.ids == numbers["train_input_ids"].ravel().tolist()
    assert [i if t else -100 for i, t in pairs] == numbers["train_labels"].ravel().tolist()


def test_several_turns_give_the_ids_of_the_published_prompt(case: Case) -> None:
    conversation = (
        Conversation.user("What is it?", [PICTURE])
        .reply("A receipt.")
        .ask("多少钱？")
        .reply("共 42.50 元。")
        .ask("Thanks")
    )
    assert case.render(conversation).ids == case.published(case.golden["multi_turn_prompt"])


def test_prompts_of_any_wording_give_the_published_ids(case: Case) -> None:
    rng = random.Random(2)
    start, end = case.golden["multi_turn_prompt"].split("<image>")
    before, after = end.split("\nWhat is it?")
    header = after.split("A receipt.")[0]
    samples = [
        "the",
        " ",
        "\n",
        "图片",
        "。",
        "<ref>",
        "</ref>",
        "😀",
        "x",
        "  ",
        "\u3000",
        "<b",
        "1",
    ]
    for _ in range(200):
        question = "".join(rng.choices(samples, k=rng.randint(0, 9)))
        place = rng.choice(("<image>\n", "<image>", "see <image>"))
        rendered = case.render(Conversation.user(place + question, [PICTURE]))
        assert rendered.ids == case.published(start + place + before + question + header)


# Frames ------------------------------------------------------------------------------------------


FRAMES = {
    "internlm2-chat": "<s><|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|>"
    "<|im_start|>assistant\n[A<|im_end|>]<|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "Hermes-2": "<s><|im_start|>system\nS<|im_end|><|im_start|>user\nQ<|im_end|>"
    "<|im_start|>assistant\n[A<|im_end|>]<|im_start|>user\nR<|im_end|><|im_start|>assistant\n",
    "tessera-small": "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
    "<|im_start|>assistant\n[A<|im_end|>]\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
    "phi3-chat": "<s><|system|>S<|end|><|user|>Q<|end|><|assistant|>[A<|end|>]"
    "<|user|>R<|end|><|assistant|>",
    "internvl_zh": "<s>S <human>: Q <bot>:[ A</s>]<human>: R <bot>:",
}


def test_every_template_has_a_frame_here() -> None:
    assert FRAMES.keys() == TEMPLATES.keys()


@pytest.mark.parametrize("name", FRAMES)
def test_a_template_writes_its_frame_and_trains_answers_only(plain: Tokenizer, name: str) -> None:
    conversation = Conversation.user("Q", system="S").reply("A").ask("R")
    rendered = render(conversation, template=name, tokenizer=plain)
    text, is_open = "", False
    for index, is_trained in zip(rendered.ids, rendered.train_mask, strict=True):
        text += "" if is_trained == is_open else "[" if is_trained else "]"
        # a run's leading blank is the vocabulary's way to begin a text
        text += plain.surfaces[index].decode()
        is_open = is_trained
    assert re.sub(r"(?<=[>\[\]]) ", "", text) == re.sub(r"(?<=[>\[\]]) ", "", FRAMES[name])


@pytest.mark.parametrize("name", FRAMES)
def test_a_sample_begins_with_the_ids_of_its_question(plain: Tokenizer, name: str) -> None:
    question = Conversation.user("What\n\nis it?", [PICTURE])
    for answer in ("A bird.", "\nA bird.", " two  blanks ", "鸟", ""):
        asked = render(question, template=name, tokenizer=plain, tile_counts=[2])
        sample = render(question.reply(answer), template=name, tokenizer=plain, tile_counts=[2])
        assert sample.ids[: len(asked.ids)] == asked.ids
        trained = [i for i, t in zip(sample.ids, sample.train_mask, strict=True) if t]
        assert sample.train_mask[len(asked.ids)]
        assert trained[-1] == plain.token_id(TEMPLATES[name].end_token)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("internlm2-chat", "You are an AI assistant whose name is InternLM (书生·浦语)."),
        ("phi3-chat", "You are an AI assistant whose name is Phi-3."),
        ("Hermes-2", "Answer the questions."),
        ("tessera-small", "Answer the questions."),
        ("internvl_zh", ""),
    ],
)
def test_the_system_message_is_that_of_the_release(
    plain: Tokenizer, name: str, message: str
) -> None:
    default = render(Conversation.user("Q"), template=name, tokenizer=plain)
    spelled = render(Conversation.user("Q"), template=name, tokenizer=plain, system_message=message)
    own = render(
        Conversation.user("Q", system=message), template=name, tokenizer=plain, system_message="X"
    )
    assert default.ids == spelled.ids == own.ids


def test_an_empty_system_message_leaves_its_frame(plain: Tokenizer) -> None:
    rendered = render(
        Conversation.user("Q"), template="Hermes-2", tokenizer=plain, system_message=""
    )
    assert read(plain, rendered.ids).startswith("<s><|im_start|>system\n<|im_end|><|im_start|>")


# Pictures ----------------------------------------------------------------------------------------


def test_each_picture_takes_its_own_count_of_visual_tokens(plain: Tokenizer) -> None:
    conversation = (
        Conversation.user("Compare.", [PICTURE, PICTURE]).reply("ok").ask("And?", [PICTURE])
    )
    rendered = render(
        conversation,
        template="Hermes-2",
        tokenizer=plain,
        tile_counts=[1, 3, 2],
        visual_tokens_per_tile=4,
    )
    visual = plain.token_id("<IMG_CONTEXT>")
    spans = re.findall("<img>((?:<IMG_CONTEXT>)*)</img>", read(plain, rendered.ids))
    assert [span.count("<IMG_CONTEXT>") for span in spans] == [4, 12, 8]
    assert rendered.ids.count(visual) == 24
    masked = [t for i, t in zip(rendered.ids, rendered.train_mask, strict=True) if i == visual]
    assert not any(masked)


@pytest.mark.parametrize("tile_counts", [[], [1], [1, 1, 1]])
def test_tile_counts_that_do_not_fit_are_both_named(
    plain: Tokenizer, tile_counts: list[int]
) -> None:
    conversation = Conversation.user("?", [PICTURE, PICTURE])
    with pytest.raises(PromptError, match=f"shows 2 pictures .* given for {len(tile_counts)}"):
        render(conversation, template="Hermes-2", tokenizer=plain, tile_counts=tile_counts)


def test_a_picture_without_tiles_is_an_error(plain: Tokenizer) -> None:
    with pytest.raises(PromptError, match="at least one"):
        render(
            Conversation.user("?", [PICTURE]), template="Hermes-2", tokenizer=plain, tile_counts=[0]
        )


def test_a_split_of_text_into_parts_changes_nothing(plain: Tokenizer) -> None:
    text = "half a word, <ref>half a tag</ref> and 半句话"
    whole = Conversation((Message("user", (Text(text), Picture(PICTURE))),))
    parts = Conversation((Message("user", (*map(Text, text), Picture(PICTURE))),))
    for name in TEMPLATES:
        one, other = (
            render(c, template=name, tokenizer=plain, tile_counts=[1]) for c in (whole, parts)
        )
        assert one == other


def test_an_unknown_template_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'phi3chat' is unknown.*Did you mean 'phi3-chat'"):
        find_template("phi3chat")
