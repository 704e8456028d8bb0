"""The assistant on a tiny checkpoint in the published layout: random weights, real tokenizer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

import tessera
from tessera import bundled
from tessera.assistant import Assistant, as_conversation
from tessera.engine.generate import GenerationOptions
from tessera.engine.sampling import SamplingOptions
from tessera.errors import ConfigError, ImageError, PromptError, UserError
from tessera.processing.conversation import Conversation, Message, Picture, Text

CASE = "chat-300m-internlm2"
SHORT = GenerationOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def assistant(golden: Path) -> Assistant:
    loaded = tessera.load(golden / CASE, precision="float32", device="cpu")
    loaded.memory = None  # everything is computed each time; `tests/unit/engine/test_memory.py`
    return loaded


@pytest.fixture(scope="module")
def picture(golden: Path) -> Path:
    return golden / CASE / "image.png"


def question(golden: Path, index: int = 0) -> tuple[str, str]:
    prompt = json.loads((golden / CASE / "golden.json").read_text(encoding="utf-8"))["prompts"][
        index
    ]
    return prompt["question"], prompt["greedy_text"]


def conversations(picture: Path) -> list[Conversation]:
    wide = Image.linear_gradient("L").resize((300, 90)).convert("RGB")
    return [
        Conversation.user("What is this?", [picture]),
        Conversation.user("Hello, who are you?"),
        Conversation.user("Which is larger?", [wide, picture]),
        Conversation.user("And this?", [Picture(wide, max_tiles=3)]).reply("A ramp.").ask("Why?"),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_it_answers_as_the_reference(
    index: int, assistant: Assistant, golden: Path, picture: Path
) -> None:
    words, expected = question(golden, index)
    answer = assistant.ask(words, picture, options=SHORT, max_tiles=6)
    assert answer.text == expected
    assert answer.finish_reason == "length"
    assert len(answer.token_ids) == len(answer.logprobs) == 12
    assert answer.grids == ((3, 2),)
    assert (answer.timing.tiles, answer.timing.visual_tokens) == (7, 28)
    assert answer.timing.prompt_tokens > 28
    assert answer.timing.first_token_s > 0
    assert answer.tokens_per_s is not None


def test_the_pieces_of_a_stream_are_the_answer(assistant: Assistant, picture: Path) -> None:
    stream = assistant.stream("What is this?", picture, options=SHORT)
    pieces = list(stream)
    assert all(pieces)
    assert "".join(pieces) == stream.answer.text
    assert stream.answer.text == assistant.ask("What is this?", picture, options=SHORT).text
    assert list(stream) == []


def test_a_batch_with_different_pictures_gives_the_answers_of_each_alone(
    assistant: Assistant, picture: Path
) -> None:
    together = assistant.batch(conversations(picture), options=SHORT, rows_at_once=3)
    for conversation, answer in zip(conversations(picture), together, strict=True):
        alone = assistant.ask(conversation, options=SHORT)
        assert alone.text == answer.text
        assert alone.token_ids == answer.token_ids
        assert alone.logprobs == pytest.approx(answer.logprobs, abs=1e-4)
        assert alone.grids == answer.grids
        assert alone.timing.prompt_tokens == answer.timing.prompt_tokens
    assert [len(answer.grids) for answer in together] == [1, 0, 2, 1]
    assert together[3].grids == ((3, 1),)


def test_answers_without_more_are_texts(assistant: Assistant) -> None:
    asked = [Conversation.user("Hello")]
    texts = assistant.answer(asked, options=SHORT)
    assert texts == [assistant.ask("Hello", options=SHORT).text]
    assert assistant.batch([]) == []


def test_a_seed_repeats_an_answer(assistant: Assistant) -> None:
    def ask(seed: int) -> str:
        sampling = SamplingOptions(temperature=1.0, top_p=0.9, seed=seed)
        return assistant.ask(
            "Hello", options=GenerationOptions(max_new_tokens=8, sampling=sampling)
        ).text

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


def test_a_stop_string_is_no_part_of_the_answer(assistant: Assistant) -> None:
    full = assistant.ask("Hello", options=SHORT).text
    stop = full[4:9]
    stream = assistant.stream("Hello", options=SHORT, stop=stop)
    pieces = list(stream)
    assert "".join(pieces) == stream.answer.text == full[: full.index(stop)].strip()
    assert stream.answer.finish_reason == "stop"
    assert len(stream.answer.token_ids) < 12
    (batched,) = assistant.batch(["Hello"], options=SHORT, stop=[stop])
    assert batched.text == stream.answer.text


def test_the_stop_token_is_an_id_but_no_text(assistant: Assistant) -> None:
    end = assistant.processor.stop_ids[0]
    head = assistant.model.language.head
    assert head is not None
    before = head.weight.data[end].clone()
    try:
        hidden = assistant.ask("Hello", options=SHORT)
        chosen = hidden.token_ids[3]
        head.weight.data[end] = head.weight.data[chosen] * 1.01
        answer = assistant.ask("Hello", options=SHORT)
    finally:
        head.weight.data[end] = before
    assert answer.finish_reason == "stop"
    assert answer.token_ids[-1] == end
    assert "<|im_end|>" not in answer.text


def test_top_log_probabilities_come_when_asked_for(assistant: Assistant) -> None:
    options = GenerationOptions(max_new_tokens=3, num_logprobs=2)
    answer = assistant.ask("Hello", options=options)
    assert [top[0] for top in answer.top_logprobs] == list(
        zip(answer.token_ids, answer.logprobs, strict=True)
    )


def test_an_interrupt_ends_the_answer_and_not_the_chat(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = assistant.ask("Hello", options=SHORT)
    inner, calls = assistant.model.language.logits, iter(range(100))

    def interrupt(hidden: torch.Tensor) -> torch.Tensor:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return inner(hidden)

    with monkeypatch.context() as patch:
        patch.setattr(assistant.model.language, "logits", interrupt)
        stream = assistant.stream("Hello", options=SHORT)
        text = "".join(stream)
    assert stream.answer.finish_reason == "stopped by user"
    assert stream.answer.text == text
    assert stream.answer.token_ids == whole.token_ids[:5]
    assert assistant.ask("Hello", options=SHORT).text == whole.text


def test_another_thread_can_cancel(assistant: Assistant) -> None:
    stream = assistant.stream("Hello", options=SHORT)
    next(stream)
    thread = threading.Thread(target=stream.cancel)
    thread.start()
    thread.join()
    list(stream)
    assert stream.answer.finish_reason == "stopped by user"
    assert len(stream.answer.token_ids) < 12


def test_an_answer_asked_for_early_holds_what_was_said(assistant: Assistant) -> None:
    stream = assistant.stream("Hello", options=SHORT)
    first = next(stream)
    assert stream.answer.text.startswith(first.strip())
    assert stream.answer.finish_reason == "stopped by user"
    unread = assistant.stream("Hello", options=SHORT)
    assert unread.answer.text == ""
    assert unread.answer.timing.first_token_s == 0.0


def test_problems_are_told_before_anything_is_generated(
    assistant: Assistant, tmp_path: Path, picture: Path
) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(ImageError):
        assistant.stream("What?", empty)
    with pytest.raises(PromptError):
        assistant.stream("<image> and <image>", picture)
    with pytest.raises(ConfigError):
        assistant.stream("Hello", stop="")


def test_a_context_too_short_clips_the_answer_and_says_so(assistant: Assistant) -> None:
    limit = 2 * assistant.config.language.max_positions  # dynamic NTK of factor 2 or more
    room = GenerationOptions(max_new_tokens=10 * limit)
    stream = assistant.stream("Hello", options=room)
    assert stream._row.is_clipped
    stream.close()
    assert not assistant.ask("Hello", options=SHORT).is_clipped


def test_the_system_message_can_be_replaced(assistant: Assistant) -> None:
    plain = assistant.ask("Hello", options=SHORT)
    other = assistant.ask("Hello", options=SHORT, system="Answer in one word.")
    assert plain.timing.prompt_tokens != other.timing.prompt_tokens


def test_a_question_becomes_a_conversation(picture: Path) -> None:
    made = as_conversation("What?", [picture], "Be brief.")
    assert made.messages[0] == Message("system", (Text("Be brief."),))
    assert len(made.pictures) == 1
    kept = Conversation.user("What?")
    assert as_conversation(kept) is kept
    assert as_conversation(kept, system="x").messages[0].role == "system"
    for wrong in (
        lambda: as_conversation(kept, [picture]),
        lambda: as_conversation(kept, picture),
        lambda: as_conversation(Conversation.user("a", system="b"), system="c"),
        lambda: as_conversation(kept.reply("done")),
    ):
        with pytest.raises(PromptError):
            wrong()


def test_embeddings_are_the_mean_patch_features_of_length_one(
    assistant: Assistant, picture: Path
) -> None:
    image = Image.linear_gradient("L").resize((200, 200)).convert("RGB")
    vectors = assistant.embed([picture, image, image])
    assert vectors.shape == (3, assistant.config.vision.width)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1])
    inputs = assistant.processor([Conversation.user("x", [image])], max_tiles=1)
    assert inputs.pixels is not None
    hidden = assistant.model.vision(inputs.pixels, assistant.config.select_layer)[0, 1:].mean(0)
    assert torch.allclose(vectors[1], hidden / hidden.norm(), atol=1e-6)
    assert assistant.embed([]).shape == (0, assistant.config.vision.width)
    assert assistant.embed([picture], max_tiles=6).shape == (1, assistant.config.vision.width)


def test_loading_names_device_precision_and_reasons(golden: Path) -> None:
    loaded = tessera.load(golden / CASE, precision="bfloat16")
    assert loaded.precision == "bfloat16"
    assert loaded.precision_reason == "bfloat16 as asked for"
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.device_reason
    assert not loaded.model.training
    assert loaded.ask("Hello", options=SHORT).token_ids


def test_without_a_name_the_default_model_is_loaded(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def ensure(**kwargs: object) -> Path:
        seen.update(kwargs)
        return golden / CASE

    monkeypatch.setattr(bundled, "ensure_default_model", ensure)
    lines: list[str] = []
    assert tessera.load(wheels=tmp_path, progress=lines.append).config.vision.width > 0
    assert seen == {"wheels": tmp_path, "progress": lines.append}


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "float16"}, {"device": "tpu"}, {"name_or_path": "/nonexistent/model"}],
    ids=str,
)
def test_what_cannot_be_loaded_is_a_user_error(wrong: dict[str, str], golden: Path) -> None:
    with pytest.raises(UserError):
        tessera.load(**({"name_or_path": str(golden / CASE)} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integer_weights_answer_alone_and_in_batches(
    golden: Path, picture: Path, precision: str
) -> None:
    loaded = tessera.load(golden / CASE, precision=precision)
    assert (loaded.precision, loaded.device) == (precision, "cpu")
    assert loaded.precision_reason == f"{precision} as asked for"
    talks = conversations(picture)
    answers = loaded.batch(talks, options=SHORT)
    assert all(len(answer.token_ids) >= 1 for answer in answers)
    again = loaded.batch(talks, options=SHORT)
    assert [a.token_ids for a in again] == [a.token_ids for a in answers]
    streamed = loaded.stream(talks[0], options=SHORT)
    assert "".join(streamed).strip() == streamed.answer.text
    vector = loaded.embed([picture])
    exact = tessera.load(golden / CASE, precision="float32").embed([picture])
    assert float((vector * exact).sum()) > 0.999


def test_a_second_question_about_a_picture_reads_its_own_words_only(
    golden: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tessera.load(golden / CASE, precision="float32", device="cpu")
    loaded.ask("What is this?", picture, options=SHORT)
    read: list[int] = []
    forward = loaded.model.language.forward

    def spy(embeds: torch.Tensor, **options: object) -> torch.Tensor:
        read.append(embeds.shape[1])
        return forward(embeds, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loaded.model.language, "forward", spy)
    second = loaded.ask("What colour is it?", picture, options=SHORT)
    assert read[0] < 40 < second.timing.prompt_tokens
    loaded.memory = None
    assert loaded.ask("What colour is it?", picture, options=SHORT).token_ids == second.token_ids


def test_a_failed_stream_does_not_claim_that_the_user_stopped_it(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    stream = assistant.stream("Hello", options=SHORT)
    monkeypatch.setattr(assistant.model.language, "forward", broken)
    with pytest.raises(MemoryError):
        next(stream)
    with pytest.raises(MemoryError):
        _ = stream.answer
