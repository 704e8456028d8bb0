"""What the config classes of the four decoder families assume, and fields that decide nothing.

The defaults are those of the published classes; transformers omits a field that equals it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.config import Family

MAX_WIDTH, MAX_LAYERS, MAX_HEADS = 65_536, 1_024, 4_096
MAX_VOCAB, MAX_MLP, MAX_POSITIONS = 4_000_000, 1_048_576, 100_000_000


@dataclass(frozen=True, kw_only=True)
class FamilyDefaults:
    """How a family is called in released configs, and what its config class assumes."""

    architecture: str
    model_type: str
    vocab_size: int
    width: int = 4096
    mlp_width: int = 11008
    max_positions: int = 2048
    norm_eps: float = 1e-6
    ropes: tuple[str, ...] = ("dynamic",)  # rope types that we compute for it, besides none


FAMILIES: dict[Family, FamilyDefaults] = {
    "internlm2": FamilyDefaults(
        architecture="InternLM2ForCausalLM", model_type="internlm2", vocab_size=103_168
    ),
    "phi3": FamilyDefaults(
        architecture="Phi3ForCausalLM", model_type="phi3", vocab_size=32_064, width=3072,
        mlp_width=8192, max_positions=4096, norm_eps=1e-5, ropes=("su", "longrope", "yarn"),
    ),
    "llama": FamilyDefaults(
        architecture="LlamaForCausalLM", model_type="llama", vocab_size=32_000
    ),
    "qwen2": FamilyDefaults(
        architecture="Qwen2ForCausalLM", model_type="qwen2", vocab_size=151_936, mlp_width=22_016,
        max_positions=32_768,
    ),
}  # fmt: skip

# Fields of transformers' config classes that choose nothing we compute.
INHERITED = frozenset({
    "return_dict", "output_hidden_states", "output_attentions", "torchscript", "torch_dtype",
    "dtype", "use_bfloat16", "tf_legacy_loss", "pruned_heads", "tie_word_embeddings",
    "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "cross_attention_hidden_size",
    "add_cross_attention", "tie_encoder_decoder", "max_length", "min_length", "do_sample",
    "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "architectures", "finetuning_task", "id2label", "label2id",
    "num_labels", "tokenizer_class", "prefix", "bos_token_id", "pad_token_id", "eos_token_id",
    "sep_token_id", "decoder_start_token_id", "task_specific_params", "problem_type",
    "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "model_type",
    "auto_map", "hidden_size", "use_cache", "initializer_range", "initializer_factor",
    "use_flash_attn", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_attn_implementation_autoset", "attention_dropout",
    "dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "pretraining_tp",
    "original_max_position_embeddings", "max_window_layers", "sliding_window",
    "use_sliding_window", "layer_types", "rope_theta", "vocab_size",
})  # fmt: skip
