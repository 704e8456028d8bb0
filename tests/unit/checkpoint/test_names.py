import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from tessera.checkpoint.files import load_weights
from tessera.checkpoint.names import (
    config_from_released,
    config_to_released,
    ignored_reason,
    is_lora_key,
    projector_table,
    vision_table,
    weight_table,
)
from tessera.checkpoint.saving import save_checkpoint
from tessera.presets import PRESETS, VISION_PRESETS
from tests.unit.checkpoint.tiny import (
    FAMILIES,
    empty_like,
    our_shapes,
    random_config,
    write_directory,
)

CASES = [(family, seed) for family in FAMILIES for seed in range(20)]


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_a_random_config_survives_both_directions(family, seed):
    config = random_config(family, seed)
    released = json.loads(json.dumps(config_to_released(config)))
    assert config_from_released(released) == config
    assert config_from_released(config_to_released(config.vision)) == config.vision


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_random_weights_survive_both_directions_bit_for_bit(family, seed, tmp_path):
    config = random_config(family, seed)
    original = write_directory(tmp_path / "released", config, seed=seed)
    loaded = empty_like(original)
    load_weights(loaded, tmp_path / "released", weight_table(config))
    assert all(torch.equal(loaded[name], original[name]) for name in original)
    save_checkpoint(loaded, config, tmp_path / "again")
    first = load_file(tmp_path / "released" / "model.safetensors")
    second = load_file(tmp_path / "again" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("seed", range(8))
def test_internlm2_rows_are_grouped_as_the_specification_says(seed, tmp_path):
    config = random_config("internlm2", seed)
    language = config.language
    ours = write_directory(tmp_path, config, seed=seed)
    released = load_file(tmp_path / "model.safetensors")
    kv, head = language.num_kv_heads, language.head_width
    group = language.num_heads // kv
    for index in range(language.num_layers):
        wqkv = released[f"language_model.model.layers.{index}.attention.wqkv.weight"]
        slots = wqkv.view(kv, group + 2, head, language.width)
        parts = (slots[:, :group], slots[:, group], slots[:, group + 1])
        expected = torch.cat([part.reshape(-1, language.width) for part in parts])
        assert torch.equal(ours[f"language.blocks.{index}.attention.qkv.weight"], expected)


@pytest.mark.parametrize("name", [*PRESETS, *VISION_PRESETS])
def test_every_preset_survives_both_directions_and_its_table_is_a_cover(name):
    config = {**PRESETS, **VISION_PRESETS}[name]()
    assert config_from_released(config_to_released(config)) == config
    table = weight_table(config)
    assert len({entry.released for entry in table}) == len(table)
    spans: dict[str, list[tuple[int, int]]] = {}
    for entry in table:
        assert sum(stop - start for start, stop in entry.spans) == entry.shape[0]
        spans.setdefault(entry.ours, []).extend(entry.spans)
    for ours, shape in our_shapes(table).items():
        edges = sorted(spans[ours])
        assert (edges[0][0], edges[-1][1]) == (0, shape[0])
        assert all(first[1] == second[0] for first, second in pairwise(edges))


def test_every_golden_key_is_in_the_table(golden):
    for directory in sorted(golden.glob("chat-*")):
        config = config_from_released(json.loads((directory / "config.json").read_text()))
        table = weight_table(config)
        stored = load_file(directory / "model.safetensors")
        assert {entry.released: entry.shape for entry in table} == {
            key: tuple(tensor.shape) for key, tensor in stored.items()
        }


def test_a_stand_alone_encoder_has_no_prefix():
    config = random_config("llama", 0)
    alone = {(entry.released, entry.ours) for entry in weight_table(config.vision)}
    assert {("vision_model." + a, "vision." + b) for a, b in alone} == {
        (entry.released, entry.ours) for entry in vision_table(config.vision)
    }


def test_the_projector_file_of_v1_2_has_bare_numbers():
    table = projector_table(random_config("llama", 0), released_prefix="", our_prefix="")
    assert [entry.released for entry in table] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias",
    ]  # fmt: skip
    assert table[0].ours == "norm.weight"


def test_ignored_keys_have_reasons_and_others_have_none():
    config = random_config("llama", 0)
    keys = {entry.released for entry in weight_table(config)}
    inverse = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    assert ignored_reason(inverse, keys) == "computed from the config"
    assert "dual encoder" in str(ignored_reason("qllama.model.norm.weight", keys))
    assert ignored_reason("language_model.model.layers.99.input_layernorm.weight", keys) is None
    assert ignored_reason("vision_model.surprise", keys) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_head_is_ignored_only_where_the_embedding_is(family):
    from dataclasses import replace

    config = random_config(family, 0)
    tied = replace(config, language=replace(config.language, tied_embeddings=True))
    untied = replace(config, language=replace(config.language, tied_embeddings=False))
    tied_keys = {entry.released for entry in weight_table(tied)}
    head = {entry.released for entry in weight_table(untied)} - tied_keys
    assert len(head) == 1
    assert "tie_word_embeddings" in str(ignored_reason(*head, tied_keys))
    assert ignored_reason(*head, {entry.released for entry in weight_table(config.vision)}) is None


@pytest.mark.parametrize(
    "key",
    [
        "language_model.base_model.model.model.layers.0.attention.wqkv.base_layer.weight",
        "language_model.base_model.model.model.layers.0.attention.wqkv.lora_A.default.weight",
        "vision_model.base_model.model.encoder.layers.0.attn.qkv.lora_B.default.weight",
        "vision_model.encoder.layers.0.attn.qkv.lora_A.weight",
    ],
)
def test_lora_keys_are_recognised(key):
    assert is_lora_key(key)


def test_ordinary_keys_are_not_taken_for_lora():
    assert not any(
        is_lora_key(entry.released)
        for family in FAMILIES
        for entry in weight_table(random_config(family, 1))
    )
