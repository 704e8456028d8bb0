"""The report that a user with a real checkpoint can send in."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import torch

import tessera
from tessera.diagnostics import describe
from tessera.diagnostics.describe import QUESTION, report_lines
from tessera.processing.conversation import Conversation
from tests.unit.checkpoint.tiny import random_config, write_directory


def test_the_report_is_the_same_twice_and_names_no_place(golden: Path) -> None:
    directory = golden / "chat-300m-internlm2"
    lines = report_lines(directory)
    assert lines == report_lines(directory)
    text = "\n".join(lines)
    assert str(directory) not in text
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    assert digest in text
    assert "language_model.model.layers.0.attention.wqkv.weight" in text
    assert "language_model.model.layers.1." not in text


def test_the_numbers_of_the_report_are_those_of_a_plain_forward_pass(golden: Path) -> None:
    directory = golden / "chat-300m-internlm2"
    lines = report_lines(directory, precision="float32")
    (told,) = (line.split(": ")[1] for line in lines if "likeliest first tokens" in line)
    (greedy,) = (line.removeprefix("  greedy ids ") for line in lines if "greedy ids" in line)
    assistant = tessera.load(directory, precision="float32", device="cpu")
    model, processor = assistant.model, assistant.processor
    inputs = processor([Conversation.user(QUESTION, [describe._picture()])])
    ids = list(inputs.ids[0])
    with torch.no_grad():
        visual = model.encode_tiles(inputs.pixels)
        said = []
        for _ in range(3):
            row = torch.tensor([ids + said])
            embeds = model.embed(row, visual, visual_token_id=processor.visual_token_id)
            logprobs = model(embeds)[0, -1].log_softmax(-1)
            if not said:
                likeliest = logprobs.topk(5)
            said.append(int(logprobs.argmax()))
    found = ast.literal_eval(f"[{told}]")
    assert [id_ for id_, _ in found] == likeliest.indices.tolist()
    for (_, value), wanted in zip(found, likeliest.values.tolist(), strict=True):
        assert abs(value - wanted) < 1e-3
    assert ast.literal_eval(greedy)[:3] == said


def test_a_stand_alone_encoder_is_reported_too(tmp_path: Path) -> None:
    write_directory(tmp_path, random_config("llama", 2).vision)
    text = "\n".join(report_lines(tmp_path))
    assert "output of the last block" in text
    assert "nan" not in text
