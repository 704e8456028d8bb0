from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from tessera.config import LanguageConfig, ModelConfig, VisionConfig
from tessera.errors import ConfigError, ImageError, PromptError
from tessera.processing.conversation import (
    Conversation,
    Message,
    Picture,
    Text,
    Video,
    from_sharegpt,
)
from tessera.processing.processor import Processor, unfold_videos
from tessera.processing.tokenizer import Tokenizer

VISION = VisionConfig(
    width=8, num_layers=1, num_heads=1, mlp_width=8, norm="layer_norm", qkv_bias=True,
    qk_norm=False, image_size=56,
)  # fmt: skip
LANGUAGE = LanguageConfig(
    family="internlm2", vocab_size=3015, width=8, num_layers=1, num_heads=1, num_kv_heads=1,
    head_width=8, mlp_width=8, max_positions=4096,
)  # fmt: skip
CONFIG = ModelConfig(
    vision=VISION, language=LANGUAGE, template="internlm2-chat", tile_size=56, max_tiles=6
)
RED = Image.new("RGB", (60, 60), "red")
WIDE = Image.new("RGB", (240, 80), "blue")


@pytest.fixture(scope="module")
def tokenizer(golden: Path) -> Tokenizer:
    return Tokenizer.from_directory(golden / "chat-300m-internlm2")


@pytest.fixture(scope="module")
def processor(tokenizer: Tokenizer) -> Processor:
    return Processor(CONFIG, tokenizer)


def test_the_golden_picture_and_sample_come_out_as_in_the_reference(golden: Path) -> None:
    folder = golden / "chat-300m-internlm2"
    numbers = load_file(folder / "golden.safetensors")
    released = json.loads((folder / "config.json").read_text())
    config = replace(CONFIG, system_message=released["system_message"])
    question = "<image>\nRead the total on this receipt."
    inputs = Processor(config, Tokenizer.from_directory(folder), image_mode="reference")(
        [Conversation.user(question, [folder / "image.png"])]
    )
    assert inputs.pixels is not None
    np.testing.assert_allclose(inputs.pixels.numpy(), numbers["pixel_values"], atol=1e-6)
    assert inputs.ids == [numbers["input_ids_0"].ravel().tolist()]
    assert inputs.tile_counts == [[7]]


def test_a_batch_keeps_pictures_counts_and_sizes_in_order(processor: Processor) -> None:
    conversations = [
        Conversation.user("Compare.", [RED, WIDE]),
        Conversation.user("No picture."),
        Conversation.user("One.", [WIDE]).reply("Yes."),
    ]
    inputs = processor(conversations)
    assert inputs.tile_counts == [[1, 4], [], [4]]
    assert inputs.sizes == [[(60, 60), (240, 80)], [], [(240, 80)]]
    assert inputs.num_tiles == [5, 0, 4]
    assert inputs.pixels is not None
    assert inputs.pixels.shape == (9, 3, 56, 56)
    assert inputs.pixels.dtype == torch.float32
    visual = [row.count(processor.visual_token_id) for row in inputs.ids]
    assert visual == [count * CONFIG.visual_tokens_per_tile for count in inputs.num_tiles]
    assert inputs.pixels[0, 0].mean() > 2
    assert inputs.pixels[1, 2].mean() > 2
    assert [any(mask) for mask in inputs.train_masks] == [False, False, True]


def test_each_conversation_of_a_batch_is_the_one_it_is_alone(processor: Processor) -> None:
    conversations = [Conversation.user("a", [WIDE]), Conversation.user("b", [RED, WIDE])]
    together = processor(conversations)
    alone = [processor([conversation]) for conversation in conversations]
    assert together.ids == [inputs.ids[0] for inputs in alone]
    assert torch.equal(together.pixels, torch.cat([inputs.pixels for inputs in alone]))


def test_text_alone_has_no_pixels(processor: Processor) -> None:
    assert processor([Conversation.user("hello")]).pixels is None
    assert processor([]).ids == []


def test_the_nearest_tile_limit_counts(processor: Processor) -> None:
    def tiles(picture: object, **options: int) -> int:
        return processor([Conversation.user("?", [picture])], **options).tile_counts[0][0]

    assert tiles(WIDE) == 4
    assert tiles(WIDE, max_tiles=2) == 3
    assert tiles(Picture(WIDE, max_tiles=1), max_tiles=2) == 1
    with pytest.raises(PromptError, match="max_tiles is 0"):
        tiles(WIDE, max_tiles=0)


def test_a_model_without_dynamic_tiling_takes_one_tile(tokenizer: Tokenizer) -> None:
    processor = Processor(replace(CONFIG, dynamic_tiling=False), tokenizer)
    assert processor([Conversation.user("?", [WIDE])], max_tiles=6).tile_counts == [[1]]


def test_a_model_that_pads_keeps_the_size_of_the_original(tokenizer: Tokenizer) -> None:
    processor = Processor(replace(CONFIG, pad_to_square=True, max_tiles=1), tokenizer)
    inputs = processor([Conversation.user("?", [WIDE])])
    assert inputs.sizes == [[(240, 80)]]
    assert inputs.pixels is not None
    assert inputs.pixels[0, :, 0].abs().max() < 0.05  # the padding is the mean colour


def test_a_video_becomes_labelled_frames_of_one_tile(processor: Processor, tmp_path: Path) -> None:
    for index in range(6):
        Image.new("RGB", (240, 80), (index * 40, 0, 0)).save(tmp_path / f"frame_{index}.png")
    conversation = Conversation.user("What happens?", [Video(tmp_path, num_frames=3)])
    unfolded = unfold_videos(conversation)
    assert unfolded.messages[0].text == "Frame1: \nFrame2: \nFrame3: \nWhat happens?"
    inputs = processor([conversation])
    assert inputs.tile_counts == [[1, 1, 1]]
    brightness = inputs.pixels[:, 0].mean((1, 2)).tolist()
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 3


def test_pictures_and_a_video_keep_their_places(processor: Processor, tmp_path: Path) -> None:
    for index in range(2):
        RED.save(tmp_path / f"f_{index}.png")
    parts = (Text("a "), Picture(WIDE), Text(" b "), Video(tmp_path, 2), Picture(RED), Text("?"))
    inputs = processor([Conversation((Message("user", parts),))])
    assert inputs.tile_counts == [[4, 1, 1, 1]]


def test_published_samples_are_processed(processor: Processor) -> None:
    sample = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
    inputs = processor([from_sharegpt(sample, [RED])])
    trained = [i for i, t in zip(inputs.ids[0], inputs.train_masks[0], strict=True) if t]
    assert processor.tokenizer.decode(trained[:-1]) == "Red."
    assert trained[-1] in processor.stop_ids


def test_generation_stops_at_the_end_token_and_at_eos(processor: Processor) -> None:
    end = processor.tokenizer.token_id("<|im_end|>")
    assert processor.stop_ids == (end, 2)


def test_an_unreadable_picture_is_named(processor: Processor, tmp_path: Path) -> None:
    bad = tmp_path / "note.jpg"
    bad.write_text("hello")
    with pytest.raises(ImageError, match="note.jpg"):
        processor([Conversation.user("?", [bad])])


def test_a_single_conversation_is_refused_with_advice(processor: Processor) -> None:
    with pytest.raises(PromptError, match=r"write \[conversation\]"):
        processor(Conversation.user("?"))  # type: ignore[arg-type]


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer: Tokenizer) -> None:
    small = replace(CONFIG, language=replace(LANGUAGE, vocab_size=3000))
    with pytest.raises(ConfigError, match="ids up to 3014, the model 3000"):
        Processor(small, tokenizer)


def test_an_unknown_template_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'internlm2-chat'"):
        Processor(replace(CONFIG, template="internlm-chat"), tokenizer)
