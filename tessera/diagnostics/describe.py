"""The text that a user with a real checkpoint can send in: what it holds, some of its numbers."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tessera
from tessera.config import VisionConfig
from tessera.models.vision import VisionEncoder
from tessera.processing.conversation import Conversation
from tessera.processing.image import open_image
from tessera.processing.tiling import normalise

QUESTION = "Please describe the image shortly."
_SUFFIXES = (".json", ".safetensors", ".model")
_NUM_LOGITS, _NUM_GREEDY = 5, 12


def report_lines(directory: Path, *, precision: str = "default") -> list[str]:
    """Return versions, file hashes, tensor shapes, and numbers on the picture of the package."""
    from tessera.assistant import load
    from tessera.checkpoint.loader import load_model, read_config

    config = read_config(directory)
    lines = ["tessera check report", ""]
    lines += _versions()
    lines += ["", "files"]
    lines += _files(directory)
    lines += ["", "tensors"]
    lines += _tensors(directory)
    if isinstance(config, VisionConfig):
        encoder = load_model(directory, lambda: VisionEncoder(config), config)
        return [*lines, "", "numbers (float32)", *_encoder_numbers(encoder)]
    assistant = load(directory, precision=precision)
    lines += ["", f"numbers ({assistant.precision_reason}; {assistant.device_reason})"]
    return lines + _numbers(assistant)


def _versions() -> list[str]:
    packages = ("torch", "numpy", "pillow", "tokenizers", "sentencepiece")
    return [
        f"  tessera {tessera.__version__}, Python {platform.python_version()}",
        "  " + ", ".join(f"{name} {metadata.version(name)}" for name in packages),
        f"  {platform.system()} {platform.machine()}",
    ]


def _files(directory: Path) -> list[str]:
    from tessera.checkpoint.formats.wheel import file_sha256

    paths = sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES)
    return [
        f"  {path.name:<40}{path.stat().st_size:>16,}  sha256 {file_sha256(path)}" for path in paths
    ]


def _tensors(directory: Path) -> list[str]:
    from tessera.checkpoint.files import read_headers

    stored = read_headers(directory)
    shapes = [f"{key} {list(stored[key].shape)} {stored[key].dtype}" for key in sorted(stored)]
    digest = hashlib.sha256("\n".join(shapes).encode()).hexdigest()
    kinds = sorted({tensor.dtype for tensor in stored.values()})
    shown = [f"  {shape}" for shape in shapes if ".layers.0." in shape or ".layers." not in shape]
    return [f"  {len(shapes)} tensors, {', '.join(kinds)}, shapes sha256 {digest}", *shown]


def _picture() -> bytes:
    return resources.files("tessera.diagnostics").joinpath("picture.png").read_bytes()


@torch.no_grad()
def _encoder_numbers(encoder: VisionEncoder) -> list[str]:
    """Describe what a stand-alone encoder makes of the whole picture as one tile."""
    size = encoder.config.image_size
    tile = open_image(_picture()).resize((size, size), Image.Resampling.BICUBIC)
    hidden_TPD = encoder(normalise(np.array(tile)[None]))
    first = [round(value, 5) for value in hidden_TPD[0, 0, :4].tolist()]
    return [
        f"  the picture as one tile of {size} px, output of the last block",
        f"  mean {float(hidden_TPD.mean()):.6f}, std {float(hidden_TPD.std()):.6f}, "
        f"class token begins {first}",
    ]


@torch.no_grad()
def _numbers(assistant: tessera.Assistant) -> list[str]:
    from tessera.engine.generate import GenerationOptions, generate

    model, processor = assistant.model, assistant.processor
    inputs = processor([Conversation.user(QUESTION, [_picture()])])
    assert inputs.pixels is not None, "the question shows a picture"
    visual = model.encode_tiles(inputs.pixels.to(device=model.device, dtype=model.dtype)).float()
    options = GenerationOptions(max_new_tokens=_NUM_GREEDY, num_logprobs=_NUM_LOGITS)
    steps = generate(
        model,
        inputs.ids,
        inputs.pixels,
        visual_token_id=processor.visual_token_id,
        stop_ids=processor.stop_ids,
        options=options,
    )
    tokens = [step[0] for step in steps if step[0] is not None]
    ids = [token.id for token in tokens]
    return [
        f"  question {QUESTION!r}, {inputs.tile_counts[0][0]} tiles, {len(inputs.ids[0])} tokens",
        f"  first ids {inputs.ids[0][:8]}, last ids {inputs.ids[0][-8:]}",
        f"  visual tokens: mean {float(visual.mean()):.6f}, std {float(visual.std()):.6f}, "
        f"first {[round(value, 5) for value in visual[0, 0, :4].tolist()]}",
        "  likeliest first tokens (id, log-probability): "
        + ", ".join(f"({id_}, {logprob:.4f})" for id_, logprob in tokens[0].top),
        f"  greedy ids {ids}",
        f"  greedy text {assistant.tokenizer.decode(ids)!r}",
    ]
