"""Write `tessera-small` as a checkpoint directory in the published layout.

Vision stays float32, the type it is published in: 88 MB, and a comparison with the original stays
exact. Language becomes float16: its source has 4 and 8 bits, so rounding to 11 bits changes far
less than the quantisation did. Every tensor is widened when it is loaded anyway.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.checkpoint.formats.dinov2_onnx import OnnxVision, read_onnx_vision
from tessera.checkpoint.formats.llama_gguf import GgufFacts, GgufFile, added_token
from tessera.checkpoint.names import config_from_released, weight_table
from tessera.errors import CheckpointError

if TYPE_CHECKING:
    import torch

TILE_SIZE = 224  # pixels: 16 x 16 patches, 64 visual tokens after the shuffle
SELECT_LAYER = -3  # the output of block 10 of 12, which served a probe best (docs/model-card.md)
MAX_TILES = 1  # what training saw; `--max-tiles` asks for more
SHUFFLE_FACTOR = 2
ADDED_TOKENS = (
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip
ADDED_ROWS = (
    "language.embedding.added_rows"  # trained rows of ADDED_TOKENS, where a part ships them
)
_EMBEDDING = "language_model.model.embed_tokens.weight"
_PROJECTOR = {"norm": "mlp1.0", "up": "mlp1.1", "down": "mlp1.3"}


def write_default_model(
    directory: Path, *, onnx: Path, gguf: Path, parts: list[Path], untrained: bool = False
) -> None:
    """Write config, weights and tokenizer into an existing, empty directory.

    `parts` are safetensors files with what was trained here (`projector.*`, perhaps more);
    `untrained` starts the projector from a fixed formula instead, which only training wants.
    """
    from safetensors.torch import save_file

    vision = read_onnx_vision(onnx)
    language = GgufFile(gguf)
    tensors = _base_tensors(vision, language)
    width = vision.width * SHUFFLE_FACTOR**2
    widths = (width, language.facts.width)
    trained = untrained_projector(*widths) if untrained else _read_parts(parts)
    _place_trained(tensors, {k: v for k, v in trained.items() if ".lora_" not in k}, widths)
    config = released_config(vision, language.facts)
    _merge_low_rank(tensors, trained, config)
    _write_json(directory / "config.json", config)
    _write_tokenizer(directory, language)
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})


def _base_tensors(vision: OnnxVision, language: GgufFile) -> dict[str, torch.Tensor]:
    import torch

    tensors = {name: torch.tensor(array) for name, array in vision.tensors.items()}
    for name, array in language.tensors():
        tensors[name] = torch.tensor(array, dtype=torch.float16)
    rows = tensors[_EMBEDDING]
    mean = rows.float().mean(dim=0, keepdim=True).to(rows.dtype)
    tensors[_EMBEDDING] = torch.cat([rows, mean.expand(len(ADDED_TOKENS), -1)])
    return tensors


def _read_parts(parts: list[Path]) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    trained: dict[str, torch.Tensor] = {}
    for path in parts:
        trained |= load_file(str(path))
    return trained


def _place_trained(
    tensors: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], widths: tuple[int, int]
) -> None:
    """Add the trained parts under released names; each must have the shape that the model needs."""
    visual, language = widths
    shapes = {
        "projector.norm.weight": (visual,),
        "projector.norm.bias": (visual,),
        "projector.up.weight": (language, visual),
        "projector.up.bias": (language,),
        "projector.down.weight": (language, language),
        "projector.down.bias": (language,),
    }
    missing = sorted(shapes.keys() - trained.keys())
    if missing:
        raise CheckpointError(
            f"the trained parts lack {missing[0]} ({len(missing)} of {len(shapes)} missing)"
        )
    shapes[ADDED_ROWS] = (len(ADDED_TOKENS), language)
    for name, tensor in trained.items():
        if tuple(tensor.shape) != shapes.get(name):
            raise CheckpointError(
                f"trained part {name} {tuple(tensor.shape)}: expected {shapes.get(name)}"
            )
        if name == ADDED_ROWS:
            tensors[_EMBEDDING][-len(ADDED_TOKENS) :] = tensor.to(tensors[_EMBEDDING].dtype)
        else:
            _, part, kind = name.split(".")
            tensors[f"{_PROJECTOR[part]}.{kind}"] = tensor.contiguous()


def _merge_low_rank(
    tensors: dict[str, torch.Tensor], trained: dict[str, torch.Tensor], config: dict[str, Any]
) -> None:
    """Add B A of each trained low-rank pair (`<layer>.lora_a`, `.lora_b`) to the layer's weight."""
    import torch

    left = {name for name in trained if ".lora_" in name}
    for entry in weight_table(config_from_released(config, where="tessera-small")):
        names = [entry.ours.removesuffix("weight") + part for part in ("lora_a", "lora_b")]
        if names[0] not in trained:
            continue
        a, b = (trained[name].float() for name in names)
        rows = torch.cat([b[start:end] for start, end in entry.spans]) @ a
        weight = tensors[entry.released]
        tensors[entry.released] = (weight.float() + rows).to(weight.dtype)
        left -= set(names)
    if left:
        raise CheckpointError(f"the trained part {min(left)} belongs to no layer of this model")


def untrained_projector(visual_width: int, language_width: int) -> dict[str, torch.Tensor]:
    """Return the start of training: uniform weights of variance 1/inputs, seeded."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def uniform(rows: int, columns: int) -> torch.Tensor:
        bound = (3.0 / columns) ** 0.5
        return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound

    return {
        "projector.norm.weight": torch.ones(visual_width),
        "projector.norm.bias": torch.zeros(visual_width),
        "projector.up.weight": uniform(language_width, visual_width),
        "projector.up.bias": torch.zeros(language_width),
        "projector.down.weight": uniform(language_width, language_width) * 0.2,
        "projector.down.bias": torch.zeros(language_width),
    }


def released_config(vision: OnnxVision, language: GgufFacts) -> dict[str, Any]:
    """Return `config.json` in the published schema."""
    vision_config = {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_size": vision.width,
        "num_hidden_layers": vision.num_layers,
        "num_attention_heads": vision.width // 64,
        "intermediate_size": vision.mlp_width,
        "image_size": vision.grid_size * vision.patch_size,
        "patch_size": vision.patch_size,
        "num_channels": 3,
        "norm_type": "layer_norm",
        "layer_norm_eps": vision.norm_eps,
        "qkv_bias": True,
        "qk_normalization": False,
        "hidden_act": "gelu",
        "drop_path_rate": 0.0,
        "torch_dtype": "float32",
    }
    llm_config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": language.vocab_size + len(ADDED_TOKENS),
        "hidden_size": language.width,
        "num_hidden_layers": language.num_layers,
        "num_attention_heads": language.num_heads,
        "num_key_value_heads": language.num_kv_heads,
        "intermediate_size": language.mlp_width,
        "max_position_embeddings": language.max_positions,
        "rms_norm_eps": language.norm_eps,
        "rope_theta": language.rope_theta,
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": language.tied_embeddings,
        "bos_token_id": language.bos_id,
        "eos_token_id": language.eos_id,
        "pad_token_id": language.pad_id,
        "torch_dtype": "float16",
    }
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "vision_config": vision_config,
        "llm_config": llm_config,
        "hidden_size": language.width,
        "force_image_size": TILE_SIZE,
        "select_layer": SELECT_LAYER,
        "downsample_ratio": 1 / SHUFFLE_FACTOR,
        "ps_version": "v2",
        "template": "tessera-small",
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": MAX_TILES,
        "pad2square": False,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "tie_word_embeddings": language.tied_embeddings,
    }


def _write_tokenizer(directory: Path, language: GgufFile) -> None:
    facts = language.facts
    tokenizer = language.tokenizer(ADDED_TOKENS)
    _write_json(directory / "tokenizer.json", tokenizer)
    entries = {str(entry["id"]): entry for entry in tokenizer["added_tokens"]}
    for token_id, entry in entries.items():
        entries[token_id] = {k: v for k, v in added_token(0, entry["content"]).items() if k != "id"}
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": facts.max_positions,
            "bos_token": language.token(facts.bos_id),
            "eos_token": language.token(facts.eos_id),
            "pad_token": language.token(facts.pad_id),
            "unk_token": language.token(facts.unknown_id),
            "added_tokens_decoder": entries,
        },
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
