import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tessera.checkpoint import files
from tessera.checkpoint.files import load_weights, plan_load, read_headers
from tessera.checkpoint.names import config_to_released, weight_table
from tessera.errors import CheckpointError
from tests.unit.checkpoint.tiny import FAMILIES, empty_like, random_config, write_directory

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture
def config():
    config = random_config("internlm2", 3)
    return replace(config, language=replace(config.language, tied_embeddings=False))


def rewrite(directory, change):
    """Let `change` edit the tensors of a directory's only file."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("wanted", DTYPES)
def test_every_type_is_cast_to_every_other(config, tmp_path, monkeypatch, stored, wanted):
    monkeypatch.setattr(files, "STAGING_BYTES", 56)  # several pieces even for tiny tensors
    original = write_directory(tmp_path, config, dtype=stored)
    loaded = empty_like(original, wanted)
    load_weights(loaded, tmp_path, weight_table(config))
    assert all(torch.equal(loaded[name], original[name].to(wanted)) for name in original)


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_give_the_same_weights_as_one_file(tmp_path, family):
    config = random_config(family, 1)
    original = write_directory(tmp_path, config, shards=4)
    loaded, told = empty_like(original), []
    plan = load_weights(
        loaded, tmp_path, weight_table(config), progress=lambda *at: told.append(at)
    )
    assert all(torch.equal(loaded[name], original[name]) for name in original)
    assert told[-1] == (plan.num_bytes, plan.num_bytes)
    assert plan.num_bytes == sum(4 * tensor.numel() for tensor in original.values())


def test_one_error_names_all_faults_with_counts_and_first_keys(config, tmp_path):
    write_directory(tmp_path, config)

    def spoil(tensors):
        for key in sorted(tensors)[:5]:
            del tensors[key]
        tensors["surprise.weight"] = torch.zeros(1)
        tensors["mlp1.0.bias"] = torch.zeros(3)
        tensors["mlp1.1.bias"] = tensors["mlp1.1.bias"].to(torch.int8)

    rewrite(tmp_path, spoil)
    with pytest.raises(CheckpointError) as error:
        plan_load(tmp_path, weight_table(config))
    text = str(error.value)
    assert "5 tensors (" in text
    assert ", ...) missing" in text
    assert "1 tensor ('surprise.weight') unexpected" in text
    assert "'mlp1.0.bias' [3] instead of" in text
    assert "'mlp1.1.bias' I8) of a type that holds no weights" in text
    assert "\n" not in text


def test_nothing_is_written_when_something_is_wrong(config, tmp_path):
    original = write_directory(tmp_path, config)
    rewrite(tmp_path, lambda tensors: tensors.pop("mlp1.0.bias"))
    loaded = empty_like(original)
    with pytest.raises(CheckpointError, match="1 tensor \\('mlp1.0.bias'\\) missing"):
        load_weights(loaded, tmp_path, weight_table(config))
    assert all(bool((tensor == 777.0).all()) for tensor in loaded.values())


def test_known_leftovers_are_ignored_with_a_reason(config, tmp_path):
    original = write_directory(tmp_path, config)
    key = "language_model.model.layers.0.attention.rotary_emb.inv_freq"
    rewrite(tmp_path, lambda tensors: tensors.update({key: torch.ones(3)}))
    plan = load_weights(empty_like(original), tmp_path, weight_table(config))
    assert plan.ignored == {key: "computed from the config"}


@pytest.mark.parametrize("same", [True, False])
def test_a_stored_head_of_a_tied_model_must_equal_the_embedding(config, tmp_path, same):
    tied = replace(config, language=replace(config.language, tied_embeddings=True))
    original = write_directory(tmp_path, tied)
    head, embedding = "language_model.output.weight", "language_model.model.tok_embeddings.weight"
    rewrite(
        tmp_path, lambda tensors: tensors.update({head: tensors[embedding] + (0 if same else 1)})
    )
    if same:
        assert list(load_weights(empty_like(original), tmp_path, weight_table(tied)).ignored) == [
            head
        ]
        return
    with pytest.raises(CheckpointError, match="tie_word_embeddings is true"):
        plan_load(tmp_path, weight_table(tied))


def test_lora_layers_inside_are_refused_with_the_remedy(config, tmp_path):
    write_directory(tmp_path, config)
    key = "language_model.base_model.model.model.layers.0.attention.wo.lora_A.default.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({key: torch.ones(2, 2)}))
    with pytest.raises(CheckpointError, match="LoRA layers.*Merge"):
        plan_load(tmp_path, weight_table(config))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "x.pt"])
def test_a_directory_with_only_pickles_says_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=f"{name}.*run code.*convert once"):
        read_headers(tmp_path)


def test_no_weights_and_no_directory_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="it has nothing"):
        read_headers(tmp_path)
    with pytest.raises(CheckpointError, match="not a directory"):
        read_headers(tmp_path / "missing")


def edited_index(tmp_path, config, change):
    write_directory(tmp_path, config, shards=2)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda m: m.update(extra=m["mlp1.0.bias"]),
            "1 tensor \\('extra'\\) listed but in no file",
        ),
        (lambda m: m.pop("mlp1.0.bias"), "'mlp1.0.bias'\\) in a file but not listed"),
        (
            lambda m: m.update({"mlp1.0.bias": next(iter(set(m.values()) - {m["mlp1.0.bias"]}))}),
            "in another file than listed",
        ),
        (lambda m: m.update(extra="../model.safetensors"), "plain file name"),
        (lambda m: m.update(extra="/etc/x.safetensors"), "plain file name"),
        (lambda m: m.update(extra="pytorch_model.bin"), "only .safetensors"),
        (lambda m: m.update(extra=["a.safetensors"]), "only .safetensors"),
        (lambda m: m.update(extra="absent.safetensors"), "no file 'absent.safetensors'"),
        (lambda m: m.clear(), "weight_map must map"),
    ],
)
def test_an_index_that_lies_is_refused(config, tmp_path, change, reason):
    edited_index(tmp_path, config, change)
    with pytest.raises(CheckpointError, match=reason):
        read_headers(tmp_path)


def test_a_tensor_in_two_shards_is_refused(config, tmp_path):
    write_directory(tmp_path, config, shards=2)
    name = "model-00001-of-00002.safetensors"
    tensors = load_file(tmp_path / name)
    tensors.update(list(load_file(tmp_path / "model-00002-of-00002.safetensors").items())[:1])
    save_file(tensors, tmp_path / name)
    with pytest.raises(CheckpointError, match="in more than one file"):
        read_headers(tmp_path)


def test_a_file_that_shrinks_between_plan_and_reading_is_told(config, tmp_path):
    original = write_directory(tmp_path, config)
    plan = plan_load(tmp_path, weight_table(config))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="became shorter"):
        files.fill(empty_like(original), plan)


def test_the_index_is_not_needed_beside_a_single_file(config, tmp_path):
    write_directory(tmp_path, config)
    (tmp_path / "model.safetensors.index.json").write_text("{broken")
    (tmp_path / "other.bin").write_bytes(b"\x80")
    assert len(plan_load(tmp_path, weight_table(config)).pairs) == len(weight_table(config))


def test_a_stand_alone_encoder_is_loaded(config, tmp_path):
    original = write_directory(tmp_path, config.vision)
    assert json.loads((tmp_path / "config.json").read_text()) == config_to_released(config.vision)
    loaded = empty_like(original)
    load_weights(loaded, tmp_path, weight_table(config.vision))
    assert all(torch.equal(loaded[name], original[name]) for name in original)
