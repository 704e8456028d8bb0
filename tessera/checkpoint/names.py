"""Two-way table of weight names: released keys and ours, per family.

The table of config.json is beside it in `released_config`. Every released key is matched by an
`Entry`, or ignored for a reason that `ignored_reason` tells. Released rows that fill only a part of
one of our tensors are row ranges of it:

    LLaMA, Qwen2    q_proj, k_proj, v_proj            -> three ranges of attention.qkv
    InternLM2       wqkv, per key-value head g        -> q of g | k of g | v of g, scattered:
        released rows  [q00 q01 k0 v0 | q10 q11 k1 v1]
        our rows       [q00 q01 q10 q11 | k0 k1 | v0 v1]
    Phi-3           qkv_proj, gate_up_proj            -> as they are
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

from tessera.checkpoint.released_config import config_from_released, unread_keys
from tessera.checkpoint.released_writing import config_to_released
from tessera.config import LanguageConfig, ModelConfig, VisionConfig

__all__ = [
    "TIED",
    "Entry",
    "config_from_released",
    "config_to_released",
    "ignored_reason",
    "is_lora_key",
    "language_table",
    "projector_table",
    "tied_partner",
    "unread_keys",
    "vision_table",
    "weight_table",
]


@dataclass(frozen=True)
class Entry:
    """One released tensor and the rows of ours that it fills, in the order of its own rows."""

    released: str
    ours: str
    shape: tuple[int, ...]  # of the released tensor
    spans: tuple[tuple[int, int], ...]  # half-open row ranges of our tensor

    @property
    def rows(self) -> slice | None:
        """The rows of ours, None if they are not one range."""
        return slice(*self.spans[0]) if len(self.spans) == 1 else None

    @property
    def grouped(self) -> bool:
        """True for InternLM2's interleaved wqkv."""
        return len(self.spans) > 1


def _whole(released: str, ours: str, *shape: int) -> Entry:
    return Entry(released, ours, shape, ((0, shape[0]),))


def weight_table(config: ModelConfig | VisionConfig) -> list[Entry]:
    """Return every released key of a chat model, or of a stand-alone InternViT (no prefix)."""
    if isinstance(config, VisionConfig):
        return vision_table(config, released_prefix="", our_prefix="")
    return [
        *vision_table(config.vision),
        *projector_table(config),
        *language_table(config.language),
    ]


def vision_table(
    config: VisionConfig, *, released_prefix: str = "vision_model.", our_prefix: str = "vision."
) -> list[Entry]:
    """Return the entries of a vision encoder."""
    width, patch = config.width, config.patch_size
    pairs = [
        ("embeddings.class_embedding", "class_token", (1, 1, width)),
        ("embeddings.position_embedding", "position", (1, 1 + config.grid_size**2, width)),
        ("embeddings.patch_embedding.weight", "patch.weight", (width, 3, patch, patch)),
        ("embeddings.patch_embedding.bias", "patch.bias", (width,)),
    ]
    for index in range(config.num_layers):
        released, ours = f"encoder.layers.{index}.", f"blocks.{index}."
        pairs += [
            (released + name, ours + our_name, shape)
            for name, our_name, shape in _vision_block(config)
        ]
    return [
        _whole(released_prefix + released, our_prefix + ours, *shape)
        for released, ours, shape in pairs
    ]


def _vision_block(config: VisionConfig) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    width, mlp = config.width, config.mlp_width
    yield "attn.qkv.weight", "attention.qkv.weight", (3 * width, width)
    if config.qkv_bias:
        yield "attn.qkv.bias", "attention.qkv.bias", (3 * width,)
    if config.qk_norm:
        yield "attn.q_norm.weight", "attention.q_norm.weight", (width,)
        yield "attn.k_norm.weight", "attention.k_norm.weight", (width,)
    yield "attn.proj.weight", "attention.out.weight", (width, width)
    yield "attn.proj.bias", "attention.out.bias", (width,)
    yield "mlp.fc1.weight", "mlp.up.weight", (mlp, width)
    yield "mlp.fc1.bias", "mlp.up.bias", (mlp,)
    yield "mlp.fc2.weight", "mlp.down.weight", (width, mlp)
    yield "mlp.fc2.bias", "mlp.down.bias", (width,)
    for norm in ("norm1", "norm2"):
        yield f"{norm}.weight", f"{norm}.weight", (width,)
        if config.norm == "layer_norm":
            yield f"{norm}.bias", f"{norm}.bias", (width,)
    yield "ls1", "scale1", (width,)
    yield "ls2", "scale2", (width,)


def projector_table(
    config: ModelConfig, *, released_prefix: str = "mlp1.", our_prefix: str = "projector."
) -> list[Entry]:
    """Return the entries of the projector; the projector file of V1-2 has no released prefix."""
    merged, width = config.vision.width * config.shuffle_factor**2, config.language.width
    pairs = [
        ("0.weight", "norm.weight", (merged,)),
        ("0.bias", "norm.bias", (merged,)),
        ("1.weight", "up.weight", (width, merged)),
        ("1.bias", "up.bias", (width,)),
        ("3.weight", "down.weight", (width, width)),
        ("3.bias", "down.bias", (width,)),
    ]
    return [
        _whole(released_prefix + released, our_prefix + ours, *shape)
        for released, ours, shape in pairs
    ]


@dataclass(frozen=True)
class _Names:
    """Released names of the parts of a decoder; `head` and `embedding` outside the blocks."""

    embedding: str
    head: str
    norm1: str
    norm2: str
    out: str
    down: str


_LLAMA = _Names(
    embedding="model.embed_tokens.weight",
    head="lm_head.weight",
    norm1="input_layernorm.weight",
    norm2="post_attention_layernorm.weight",
    out="self_attn.o_proj.weight",
    down="mlp.down_proj.weight",
)
_INTERNLM2 = _Names(
    embedding="model.tok_embeddings.weight",
    head="output.weight",
    norm1="attention_norm.weight",
    norm2="ffn_norm.weight",
    out="attention.wo.weight",
    down="feed_forward.w2.weight",
)
_NAMES = {"internlm2": _INTERNLM2, "phi3": _LLAMA, "llama": _LLAMA, "qwen2": _LLAMA}


def language_table(
    config: LanguageConfig,
    *,
    released_prefix: str = "language_model.",
    our_prefix: str = "language.",
) -> list[Entry]:
    """Return the entries of a decoder."""
    names, width = _NAMES[config.family], config.width
    entries = [
        _whole(names.embedding, "embedding.weight", config.vocab_size, width),
        _whole("model.norm.weight", "norm.weight", width),
    ]
    if not config.tied_embeddings:
        entries.append(_whole(names.head, "head.weight", config.vocab_size, width))
    attention_width = config.num_heads * config.head_width
    for index in range(config.num_layers):
        block = [
            _whole(names.norm1, "norm1.weight", width),
            _whole(names.norm2, "norm2.weight", width),
            _whole(names.out, "attention.out.weight", width, attention_width),
            _whole(names.down, "mlp.down.weight", width, config.mlp_width),
            *_qkv(config),
            *_gate_up(config),
        ]
        entries += [
            _prefixed(entry, f"model.layers.{index}.", f"blocks.{index}.") for entry in block
        ]
    return [_prefixed(entry, released_prefix, our_prefix) for entry in entries]


def _prefixed(entry: Entry, released: str, ours: str) -> Entry:
    return Entry(released + entry.released, ours + entry.ours, entry.shape, entry.spans)


def _qkv(config: LanguageConfig) -> list[Entry]:
    head, width = config.head_width, config.width
    q_rows, kv_rows = config.num_heads * head, config.num_kv_heads * head
    k_start, v_start, end = q_rows, q_rows + kv_rows, q_rows + 2 * kv_rows
    ours = "attention.qkv.weight"
    if config.family == "phi3":
        return [_whole("self_attn.qkv_proj.weight", ours, end, width)]
    if config.family == "internlm2":
        group = q_rows // config.num_kv_heads
        spans: list[tuple[int, int]] = []
        for index in range(config.num_kv_heads):
            spans.append((index * group, (index + 1) * group))
            spans.append((k_start + index * head, k_start + (index + 1) * head))
            spans.append((v_start + index * head, v_start + (index + 1) * head))
        return [Entry("attention.wqkv.weight", ours, (end, width), tuple(spans))]
    parts = {"q": (0, k_start), "k": (k_start, v_start), "v": (v_start, end)}
    entries = []
    for name, (start, stop) in parts.items():
        released = f"self_attn.{name}_proj."
        entries.append(Entry(released + "weight", ours, (stop - start, width), ((start, stop),)))
        if config.qkv_bias:
            entries.append(
                Entry(released + "bias", "attention.qkv.bias", (stop - start,), ((start, stop),))
            )
    return entries


def _gate_up(config: LanguageConfig) -> list[Entry]:
    mlp, width, ours = config.mlp_width, config.width, "mlp.gate_up.weight"
    if config.family == "phi3":
        return [_whole("mlp.gate_up_proj.weight", ours, 2 * mlp, width)]
    gate, up = (
        ("feed_forward.w1.weight", "feed_forward.w3.weight")
        if config.family == "internlm2"
        else ("mlp.gate_proj.weight", "mlp.up_proj.weight")
    )
    return [
        Entry(gate, ours, (mlp, width), ((0, mlp),)),
        Entry(up, ours, (mlp, width), ((mlp, 2 * mlp),)),
    ]


TIED = "the embedding, by tie_word_embeddings"
_IGNORED = (
    (
        re.compile(r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$"),
        "computed from the config",
    ),
    (re.compile(r"(^|\.)position_ids$"), "computed from the length"),
    (
        re.compile(
            r"^(qllama\.|clip_projector2?\.|itm_head\.|(query_tokens|text_projection|logit_scale)$)"
        ),
        "part of the InternVL-14B dual encoder only",
    ),
)
_LORA = re.compile(r"(^|\.)(base_model\.model|base_layer|lora_[AB]|lora_embedding_[AB])\.")


def ignored_reason(key: str, table: Container[str]) -> str | None:
    """Say why a released key outside the table needs no place, None if it does."""
    for names in (_LLAMA, _INTERNLM2):
        prefix = key.removesuffix(names.head)
        if prefix != key and prefix + names.embedding in table and key not in table:
            return TIED
    return next((reason for pattern, reason in _IGNORED if pattern.search(key)), None)


def tied_partner(key: str) -> str:
    """Return the released key of the embedding that a released output head belongs to."""
    for names in (_LLAMA, _INTERNLM2):
        if key.endswith(names.head):
            return key.removesuffix(names.head) + names.embedding
    raise AssertionError(f"{key} is no output head")


def is_lora_key(key: str) -> bool:
    """Tell whether a key was saved from a model with LoRA layers inside."""
    return _LORA.search(key) is not None
