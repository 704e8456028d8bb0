"""A LLaMA-layout language model inside a GGUF file, in released names, with its tokenizer.

Quantised tensors are dequantised one at a time. GGUF stores the rows of query and key heads
interleaved (2i, 2i+1 rotate together); the released layout rotates halves (i, i + E/2), so the rows
are put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.errors import CheckpointError, UserError

if TYPE_CHECKING:
    import numpy as np

_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {
    "token_embd.weight": "language_model.model.embed_tokens.weight",
    "output_norm.weight": "language_model.model.norm.weight",
    "output.weight": "language_model.lm_head.weight",
}
_CONTROL = 3  # token type of the tokens that only a template may write


@dataclass(frozen=True, kw_only=True)
class GgufFacts:
    """What the file's metadata say about the model."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    mlp_width: int
    max_positions: int
    norm_eps: float
    rope_theta: float
    tied_embeddings: bool
    bos_id: int
    eos_id: int
    pad_id: int
    unknown_id: int


class GgufFile:
    """One open GGUF file."""

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError:
            raise UserError(
                "the default model needs the package gguf: pip install 'tessera-vl[default]'"
            ) from None
        self._dequantise = gguf.dequantize
        self._path = path
        self._reader = gguf.GGUFReader(str(path))
        if self._field("general.architecture") != "llama":
            raise CheckpointError(f"{path} does not hold a model of LLaMA layout")
        self.facts = self._read_facts()

    def _field(self, name: str) -> Any:
        field = self._reader.fields.get(name)
        if field is None:
            raise CheckpointError(f"{self._path} lacks the entry {name!r}")
        return field.contents()

    def _read_facts(self) -> GgufFacts:
        names = {tensor.name for tensor in self._reader.tensors}
        return GgufFacts(
            vocab_size=len(self._field("tokenizer.ggml.tokens")),
            width=self._field("llama.embedding_length"),
            num_layers=self._field("llama.block_count"),
            num_heads=self._field("llama.attention.head_count"),
            num_kv_heads=self._field("llama.attention.head_count_kv"),
            mlp_width=self._field("llama.feed_forward_length"),
            max_positions=self._field("llama.context_length"),
            norm_eps=float(f"{self._field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
            rope_theta=float(self._field("llama.rope.freq_base")),
            tied_embeddings="output.weight" not in names,
            bos_id=self._field("tokenizer.ggml.bos_token_id"),
            eos_id=self._field("tokenizer.ggml.eos_token_id"),
            pad_id=self._field("tokenizer.ggml.padding_token_id"),
            unknown_id=self._field("tokenizer.ggml.unknown_token_id"),
        )

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (released name, float32 array), dequantised, one tensor at a time."""
        import numpy as np

        heads = {"attn_q": self.facts.num_heads, "attn_k": self.facts.num_kv_heads}
        for tensor in self._reader.tensors:
            array = np.asarray(self._dequantise(tensor.data, tensor.tensor_type), dtype=np.float32)
            kind = tensor.name.split(".")[-2]
            if kind in heads:
                array = _halves_from_pairs(array, heads[kind])
            yield self._released_name(tensor.name), np.ascontiguousarray(array)

    def _released_name(self, name: str) -> str:
        if name in _NAMES:
            return _NAMES[name]
        parts = name.split(".")
        if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK_NAMES:
            return f"language_model.model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.{parts[3]}"
        raise CheckpointError(f"{self._path} holds a tensor {name!r} that no LLaMA model has")

    def tokenizer(self, added: tuple[str, ...]) -> dict[str, Any]:
        """Return a `tokenizer.json` of this byte-level BPE, with tokens `added` behind the last id.

        The pre-tokenizer is the one of SmolLM: single digits, then the GPT-2 pattern over bytes.
        """
        if (
            self._field("tokenizer.ggml.model") != "gpt2"
            or self._field("tokenizer.ggml.pre") != "smollm"
        ):
            raise CheckpointError(f"{self._path} does not hold SmolLM's byte-level tokenizer")
        tokens = self._field("tokenizer.ggml.tokens")
        kinds = self._field("tokenizer.ggml.token_type")
        special = [
            (i, token)
            for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == _CONTROL
        ]
        special += [(len(tokens) + i, token) for i, token in enumerate(added)]
        byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [added_token(i, token) for i, token in special],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    byte_level | {"add_prefix_space": False},
                ],
            },
            "post_processor": None,
            "decoder": byte_level | {"add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": [merge.split(" ", 1) for merge in self._field("tokenizer.ggml.merges")],
            },
        }

    def token(self, token_id: int) -> str:
        """Return the text of one token."""
        return self._field("tokenizer.ggml.tokens")[token_id]


def added_token(token_id: int, content: str) -> dict[str, Any]:
    """Return an entry of `added_tokens` that takes no white space beside it."""
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {"id": token_id, "content": content} | flags


def _halves_from_pairs(array: np.ndarray, num_heads: int) -> np.ndarray:
    """Put the rows of each head from (pair, which) order into (which, pair) order."""
    rows = array.shape[0]
    paired = array.reshape(num_heads, rows // num_heads // 2, 2, *array.shape[1:])
    return paired.swapaxes(1, 2).reshape(array.shape)
