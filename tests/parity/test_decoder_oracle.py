"""The decoder against `transformers` (LLaMA, Qwen2, Phi-3) and a naive float64 one (the rest)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tessera.checkpoint.names import language_table
from tessera.config import LanguageConfig, RopeConfig
from tessera.models.cache import KVCache
from tessera.models.language import Decoder
from tests.parity import naive

pytestmark = pytest.mark.parity
# Both sides compute angles in float32; all else is float64.
TOLERANCE = 1e-5
NUM_CONFIGS = 20


def random_config(family: str, seed: int) -> LanguageConfig:
    dice = random.Random(f"{family} {seed}")
    num_kv_heads = dice.choice([1, 2, 3, 5])
    num_heads = num_kv_heads * dice.choice([1, 1, 2, 3, 7] if num_kv_heads < 3 else [1, 2])
    head_width = dice.choice([4, 6, 8, 10])
    # Other widths than heads * head_width exist; `transformers` allows multiples of the heads only.
    width = num_heads * (head_width if family == "phi3" else dice.choice([2, 3, 5, head_width]))
    rope = RopeConfig(theta=dice.choice([100.0, 10_000.0, 1e6]))
    max_positions = 64
    if family == "internlm2":
        rope = replace(rope, kind="dynamic", factor=dice.choice([1.5, 2.0, 3.0]))
    if family == "phi3" and seed % 2:
        half = head_width // 2
        rope = replace(
            rope, kind="su", original_max_positions=32,
            short_factor=tuple(dice.uniform(1, 2) for _ in range(half)),
            long_factor=tuple(dice.uniform(2, 5) for _ in range(half)),
        )  # fmt: skip
    return LanguageConfig(
        family=family, vocab_size=dice.randrange(11, 70), width=width, rope=rope,  # type: ignore[arg-type]
        num_layers=dice.choice([1, 2, 3]), num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_width=head_width, mlp_width=dice.choice([5, 16, 31]), max_positions=max_positions,
        norm_eps=dice.choice([1e-5, 1e-6]), tied_embeddings=seed % 3 == 0,
        qkv_bias=family == "qwen2",
        sliding_window=dice.choice([None, 7]) if family == "phi3" else None,
    )  # fmt: skip


def random_decoder(config: LanguageConfig, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    decoder = Decoder(config).double().eval()
    for name, parameter in decoder.named_parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 1
        nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.9 / fan_in**0.5)
    return decoder.requires_grad_(False)


def sequences(config: LanguageConfig, seed: int, lengths: list[int] | None = None) -> list[Tensor]:
    dice = random.Random(seed)
    lengths = lengths or [dice.randrange(1, 20) for _ in range(4)]
    return [
        torch.tensor([dice.randrange(config.vocab_size) for _ in range(length)])
        for length in lengths
    ]


def weights_of(decoder: Decoder) -> naive.Weights:
    return {name: tensor.numpy() for name, tensor in decoder.state_dict().items()}


def naive_logits(decoder: Decoder, ids: Tensor, lengths: list[int] | None = None) -> Tensor:
    embeds = decoder.embedding(ids).numpy()
    weights = weights_of(decoder)
    return torch.from_numpy(naive.decoder_logits(weights, decoder.config, embeds, lengths=lengths))


def run(decoder: Decoder, ids_BL: Tensor, **kwargs: object) -> Tensor:
    return decoder.logits(decoder(decoder.embedding(ids_BL), **kwargs))


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) if a.numel() else 0.0


def transformers_model(decoder: Decoder) -> nn.Module:
    """The same numbers in the class of `transformers`, its weights filled from ours."""
    transformers = pytest.importorskip("transformers")
    config, family = decoder.config, decoder.config.family
    rope: dict[str, object] = {"rope_theta": config.rope.theta, "rope_type": "default"}
    if config.rope.kind == "su":
        rope |= {
            "rope_type": "longrope", "short_factor": list(config.rope.short_factor),
            "long_factor": list(config.rope.long_factor),
            "original_max_position_embeddings": config.rope.original_max_positions,
        }  # fmt: skip
    if config.rope.kind == "dynamic":
        rope |= {"rope_type": "dynamic", "factor": config.rope.factor}
    fields: dict[str, object] = {
        "vocab_size": config.vocab_size, "hidden_size": config.width,
        "intermediate_size": config.mlp_width, "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads, "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.norm_eps, "tie_word_embeddings": config.tied_embeddings,
        "max_position_embeddings": config.max_positions, "rope_parameters": rope,
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
        "attn_implementation": "sdpa",
    }  # fmt: skip
    names = {"phi3": "Phi3", "qwen2": "Qwen2", "llama": "Llama", "internlm2": "Llama"}[family]
    if family == "phi3":
        fields["sliding_window"] = config.sliding_window
        if config.rope.original_max_positions:
            fields["original_max_position_embeddings"] = config.rope.original_max_positions
    else:
        fields["head_dim"] = config.head_width
    their_config = getattr(transformers, f"{names}Config")(**fields)
    model = getattr(transformers, f"{names}ForCausalLM")(their_config).double().eval()
    missing, unexpected = model.load_state_dict(their_weights(decoder), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return with_exact_norms(model)


def with_exact_norms(model: nn.Module) -> nn.Module:
    """Their RMSNorm goes through float32 even in a float64 model: 2e-5 in unlucky logits."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                eps = child.variance_epsilon
                exact = nn.RMSNorm(child.weight.shape[0], eps=eps, dtype=torch.float64)
                exact.weight = child.weight
                setattr(parent, name, exact)
    return model


def their_weights(decoder: Decoder) -> dict[str, Tensor]:
    config = decoder.config
    sizes = [n * config.head_width for n in (config.num_heads, *[config.num_kv_heads] * 2)]
    out: dict[str, Tensor] = {
        "model.embed_tokens.weight": decoder.embedding.weight,
        "model.norm.weight": decoder.norm.weight,
    }
    if decoder.head is not None:
        out["lm_head.weight"] = decoder.head.weight
    for index, block in enumerate(decoder.blocks):
        at = f"model.layers.{index}."
        out[at + "input_layernorm.weight"] = block.norm1.weight
        out[at + "post_attention_layernorm.weight"] = block.norm2.weight
        out[at + "self_attn.o_proj.weight"] = block.attention.out.weight
        out[at + "mlp.down_proj.weight"] = block.mlp.down.weight
        if config.family == "phi3":
            out[at + "self_attn.qkv_proj.weight"] = block.attention.qkv.weight
            out[at + "mlp.gate_up_proj.weight"] = block.mlp.gate_up.weight
            continue
        for name, part in zip("qkv", block.attention.qkv.weight.split(sizes), strict=True):
            out[f"{at}self_attn.{name}_proj.weight"] = part
        if config.qkv_bias:
            for name, part in zip("qkv", block.attention.qkv.bias.split(sizes), strict=True):
                out[f"{at}self_attn.{name}_proj.bias"] = part
        gate, up = block.mlp.gate_up.weight.chunk(2)
        out |= {at + "mlp.gate_proj.weight": gate, at + "mlp.up_proj.weight": up}
    return out


CASES = [(family, seed) for family in ("llama", "qwen2", "phi3") for seed in range(NUM_CONFIGS)]


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_single_ragged_and_packed_rows_agree_with_transformers(family: str, seed: int) -> None:
    config = random_config(family, seed)
    decoder = random_decoder(config, seed)
    theirs = transformers_model(decoder)
    rows = sequences(config, seed)
    with torch.no_grad():
        expected = [theirs(ids[None], use_cache=False).logits[0] for ids in rows]
    compare_everywhere(decoder, rows, expected)


@pytest.mark.parametrize("seed", range(NUM_CONFIGS))
def test_internlm2_with_its_grouped_rows_agrees_with_the_naive_decoder(seed: int) -> None:
    config = random_config("internlm2", seed)
    decoder = random_decoder(config, seed)
    rows = sequences(config, seed)
    expected = [naive_logits(decoder, ids) for ids in rows]
    # The naive decoder reads natural head order; the released order is one group a key head, and
    # the name table says where its rows belong.
    width, per_group = config.head_width, config.num_heads // config.num_kv_heads
    entries = language_table(config, our_prefix="")
    table = {entry.ours: entry for entry in entries if "wqkv" in entry.released}
    for index, block in enumerate(decoder.blocks):
        heads = block.attention.qkv.weight.clone().reshape(-1, width, config.width)
        released = torch.cat(
            [
                part
                for g in range(config.num_kv_heads)
                for part in (
                    *heads[g * per_group : (g + 1) * per_group],
                    heads[config.num_heads + g],
                    heads[config.num_heads + config.num_kv_heads + g],
                )
            ]
        )
        filled = torch.full_like(released, torch.nan)
        places = [slice(*span) for span in table[f"blocks.{index}.attention.qkv.weight"].spans]
        sizes = [place.stop - place.start for place in places]
        for place, rows_of_it in zip(places, released.split(sizes), strict=True):
            filled[place] = rows_of_it
        block.attention.qkv.weight.copy_(filled)
    compare_everywhere(decoder, rows, expected)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
def test_the_naive_decoder_agrees_with_transformers(family: str) -> None:
    config = random_config(family, 1)
    decoder = random_decoder(config)
    theirs = transformers_model(decoder)
    for ids in sequences(config, 5):
        with torch.no_grad():
            expected = theirs(ids[None], use_cache=False).logits[0]
        assert difference(naive_logits(decoder, ids), expected) < TOLERANCE


def compare_everywhere(decoder: Decoder, rows: list[Tensor], expected: list[Tensor]) -> None:
    """Alone, left-padded, packed, and read in pieces through a cache."""
    with torch.no_grad():
        for ids, logits in zip(rows, expected, strict=True):
            assert difference(run(decoder, ids[None])[0], logits) < TOLERANCE
            assert difference(in_pieces(decoder, ids, seed=len(ids)), logits) < TOLERANCE
        ids_BL, segments_BL = left_padded(rows)
        padded = run(decoder, ids_BL, segments_BL=segments_BL)
        for row, logits in zip(padded, expected, strict=True):
            assert difference(row[-len(logits) :], logits) < TOLERANCE
        packed = run(decoder, torch.cat(rows)[None], segments_BL=packed_segments(rows)[None])[0]
        assert difference(packed, torch.cat(expected)) < TOLERANCE
        for row, logits in zip(padded_in_pieces(decoder, rows), expected, strict=True):
            assert difference(row, logits[len(logits) - len(row) :]) < TOLERANCE


def left_padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    length = max(len(row) for row in rows)
    ids = torch.stack([torch.cat([row.new_zeros(length - len(row)), row]) for row in rows])
    segments = torch.stack(
        [torch.cat([row.new_zeros(length - len(row)), torch.ones_like(row)]) for row in rows]
    )
    return ids, segments


def packed_segments(rows: list[Tensor]) -> Tensor:
    return torch.cat([torch.full_like(row, index + 1) for index, row in enumerate(rows)])


def in_pieces(decoder: Decoder, ids: Tensor, seed: int) -> Tensor:
    """Logits of all positions, read through a small cache in random pieces."""
    dice = random.Random(seed)
    cache = KVCache(decoder.config, 1, capacity=2, dtype=torch.float64)
    out: list[Tensor] = []
    start = 0
    while start < len(ids):
        end = min(len(ids), start + dice.choice([1, 1, 2, 5]))
        out.append(run(decoder, ids[None, start:end], cache=cache)[0])
        start = end
    return torch.cat(out)


def padded_in_pieces(decoder: Decoder, rows: list[Tensor]) -> list[Tensor]:
    """Logits of the last positions: all but the last tokens of each row first, left-padded."""
    count = min(len(row) for row in rows) - 1
    if count == 0:
        return [torch.empty(0, decoder.config.vocab_size).double() for _ in rows]
    ids_BL, segments_BL = left_padded([row[:-count] for row in rows])
    cache = KVCache(decoder.config, len(rows), capacity=3, dtype=torch.float64)
    run(decoder, ids_BL, segments_BL=segments_BL, cache=cache)
    last_BL = torch.stack([row[-count:] for row in rows])
    steps = [run(decoder, last_BL[:, i : i + 1], cache=cache) for i in range(count)]
    return list(torch.cat(steps, 1))


def stretched_config(kind: str, seed: int) -> LanguageConfig:
    config = random_config("llama", seed)
    half = config.head_width // 2
    dice = random.Random(seed)
    rope = RopeConfig(theta=10_000.0, kind="dynamic", factor=2.5)
    if kind != "dynamic":
        rope = RopeConfig(
            kind=kind, original_max_positions=8,  # type: ignore[arg-type]
            short_factor=tuple(dice.uniform(1, 2) for _ in range(half)),
            long_factor=tuple(dice.uniform(2, 6) for _ in range(half)),
        )  # fmt: skip
    return replace(config, rope=rope, max_positions=12 if kind == "dynamic" else 40)


STRETCHED = [(kind, seed) for kind in ("dynamic", "su", "yarn") for seed in range(3)]


@pytest.mark.parametrize(("kind", "seed"), STRETCHED)
def test_sequences_beyond_the_limit_agree_with_the_naive_decoder(kind: str, seed: int) -> None:
    decoder = random_decoder(stretched_config(kind, seed), seed)
    limit = 12 if kind == "dynamic" else 8
    rows = sequences(decoder.config, seed, [limit - 3, limit, limit + 1, limit + 17])
    expected = [naive_logits(decoder, ids) for ids in rows]
    with torch.no_grad():
        for ids, logits in zip(rows, expected, strict=True):
            assert difference(run(decoder, ids[None])[0], logits) < TOLERANCE
        ids_BL, segments_BL = left_padded(rows)
        padded = run(decoder, ids_BL, segments_BL=segments_BL)
        for row, logits in zip(padded, expected, strict=True):
            assert difference(row[-len(logits) :], logits) < TOLERANCE
        packed = run(decoder, torch.cat(rows)[None], segments_BL=packed_segments(rows)[None])[0]
        assert difference(packed, torch.cat(expected)) < TOLERANCE


@pytest.mark.parametrize(("kind", "seed"), STRETCHED)
def test_keys_in_a_cache_keep_the_turn_of_the_length_at_which_they_were_read(
    kind: str, seed: int
) -> None:
    """As in the published code; a cache cannot do otherwise, for the values behind depend on it."""
    decoder = random_decoder(stretched_config(kind, seed), seed)
    limit = 12 if kind == "dynamic" else 8
    rows = sequences(decoder.config, seed, [limit - 4, limit + 2, limit + 9, limit - 1])
    lengths = [[len(row)] * len(row) for row in rows]
    ids_BL, segments_BL = left_padded(rows)
    cache = KVCache(decoder.config, len(rows), capacity=4, dtype=torch.float64)
    with torch.no_grad():
        run(decoder, ids_BL, segments_BL=segments_BL, cache=cache)
        for step in range(6):
            newest = torch.tensor([[(3 * step + r) % decoder.config.vocab_size] for r in range(4)])
            logits = run(decoder, newest, cache=cache)[:, -1]
            rows = [torch.cat([row, new]) for row, new in zip(rows, newest, strict=True)]
            lengths = [[*history, len(history) + 1] for history in lengths]
            for ids, found, history in zip(rows, logits, lengths, strict=True):
                assert difference(found, naive_logits(decoder, ids, history)[-1]) < TOLERANCE


def test_dynamic_ntk_beyond_the_limit_agrees_with_transformers() -> None:
    for seed in range(4):
        decoder = random_decoder(stretched_config("dynamic", seed), seed)
        for ids in sequences(decoder.config, seed, [30, 9, 20]):
            with torch.no_grad():
                expected = transformers_model(decoder)(ids[None], use_cache=False).logits[0]
                assert difference(run(decoder, ids[None])[0], expected) < TOLERANCE


def test_a_long_sequence_leaves_no_trace_in_a_later_short_one() -> None:
    decoder = random_decoder(stretched_config("dynamic", 1))
    short, long = sequences(decoder.config, 1, [8, 40])
    before = run(decoder, short[None])
    run(decoder, long[None])
    assert torch.equal(run(decoder, short[None]), before)


def test_angles_far_out_stay_near_the_naive_ones() -> None:
    from tessera.models.rope import rotary_angles

    config = replace(random_config("llama", 0), head_width=8, max_positions=2**17)
    positions = torch.tensor([[0, 1, 4095, 32_767, 100_000]])
    cos, _ = rotary_angles(config, positions, torch.tensor([[100_001]]))
    turns = naive.frequencies(config.rope, 8, config.max_positions, 100_001)
    exact = np.cos(positions.numpy()[0][:, None] * turns)
    assert np.abs(cos[0, :, 0, :4].numpy() - exact).max() < 1e-2  # float32 angles: 1e5 * 2**-24


def batches() -> Iterator[LanguageConfig]:
    for family in ("internlm2", "phi3", "llama", "qwen2"):
        yield from (random_config(family, seed) for seed in range(NUM_CONFIGS))


def test_the_random_configurations_cover_what_they_should() -> None:
    configs = list(batches())
    assert {c.num_heads % 2 for c in configs} == {0, 1}
    assert any(c.num_heads > c.num_kv_heads > 1 for c in configs)
    assert {c.tied_embeddings for c in configs} == {False, True}
    assert {c.rope.kind for c in configs} == {"plain", "dynamic", "su"}
    assert any(c.width != c.num_heads * c.head_width for c in configs)
    assert any(c.sliding_window for c in configs)
