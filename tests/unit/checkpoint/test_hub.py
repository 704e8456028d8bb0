import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tessera.checkpoint.hub import resolve
from tessera.checkpoint.loader import read_config
from tessera.checkpoint.names import config_to_released
from tessera.errors import DownloadError
from tests.unit.checkpoint.fake_hub import FakeHub
from tests.unit.checkpoint.tiny import random_config, write_directory

CONFIG = random_config("llama", 1)


def repository(tmp_path, *, shards=1, seed=0) -> dict[str, bytes]:
    source = tmp_path / f"source-{shards}-{seed}"
    write_directory(source, CONFIG, shards=shards, seed=seed)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    return files | {
        "README.md": b"card",
        "LICENSE": b"MIT",
        "tokenizer.model": b"spm",
        "tokenizer_config.json": b"{}",
        "modeling_internvl_chat.py": b"import os",
        "pytorch_model.bin": b"\x80\x04",
        "optimizer.pt": b"\x80",
        "other.safetensors": b"not asked for",
        "examples/image.json": b"{}",
    }


@pytest.fixture
def fake(monkeypatch, tmp_path):
    server = FakeHub()
    cache = tmp_path / "cache"
    monkeypatch.setenv("HF_ENDPOINT", server.url(server.hub))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("time.sleep", lambda _: None)  # the library waits between its tries
    huggingface_hub.close_session()
    yield server
    server.close()


def blobs(tmp_path):
    return sorted((tmp_path / "cache" / "models--owner--model" / "blobs").glob("*"))


def test_a_local_directory_is_itself(tmp_path):
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Mini-InternVL-Chat-2B-V1.5", "Did you mean 'Mini-InternVL-Chat-2B-V1-5'?"),
        ("InternVL-Chat-V1-5", "preset, numbers without weights.*OpenGVLab/InternVL-Chat-V1-5"),
        ("../nowhere", "neither a directory here nor a hub id"),
        ("/no/such/place", "neither a directory here nor a hub id"),
        ("a/b/c", "neither a directory here nor a hub id"),
        ("", "neither a directory here nor a hub id"),
        ("own er/na me", "neither a directory here nor a hub id"),
        ("x" * 10_000, "neither a directory here nor a hub id"),
        ("nul\0/x", "neither a directory here nor a hub id"),
        ("owner--x/model..y", "neither a directory here nor a hub id"),
    ],
)
def test_a_name_that_is_nothing_says_so_and_what_is_near(fake, name, hint):
    with pytest.raises(DownloadError, match=hint) as error:
        resolve(name)
    assert "\n" not in str(error.value)
    assert not fake.requests


def test_a_file_is_not_a_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DownloadError, match="is a file. Give the directory"):
        resolve(tmp_path / "model.safetensors")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_repository_is_fetched_and_only_what_a_checkpoint_needs(fake, tmp_path, shards):
    fake.commit(repository(tmp_path, shards=shards))
    told: list[str] = []
    directory = resolve("owner/model", progress=told.append)
    assert read_config(directory) == CONFIG
    names = {path.name for path in directory.iterdir()}
    expected = {"config.json", "README.md", "LICENSE", "tokenizer.model", "tokenizer_config.json"}
    weights = {"model.safetensors"}
    if shards > 1:
        weights = {f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)}
        weights.add("model.safetensors.index.json")
    assert names == expected | weights
    assert set(fake.fetched()) == names
    assert any(line.startswith("fetching owner/model: ") for line in told)
    count = len(fake.requests)
    assert resolve("owner/model") == directory
    assert not any("/cdn/" in path for _, path, _ in fake.requests[count:])


def test_a_download_cut_in_the_middle_goes_on_where_it_stopped(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    files = repository(tmp_path)
    fake.commit(files)
    fake.cuts = [3000, 1000, 2000]
    directory = resolve("owner/model")
    assert (directory / "model.safetensors").read_bytes() == files["model.safetensors"]
    ranges = [headers["Range"] for _, _, headers in fake.requests if "Range" in headers]
    assert ranges == ["bytes=3000-", "bytes=4000-", "bytes=6000-"]
    assert not fake.cuts


def test_a_connection_that_always_breaks_is_told_and_a_second_run_completes(fake, tmp_path):
    fake.commit(repository(tmp_path))
    fake.cuts = [0] * 50
    with pytest.raises(DownloadError, match="Run the same command again") as error:
        resolve("owner/model")
    assert "\n" not in str(error.value)
    fake.cuts = []
    assert read_config(resolve("owner/model")) == CONFIG


def test_a_hub_that_asks_to_slow_down_is_waited_for(fake, tmp_path):
    fake.commit(repository(tmp_path))
    resolve_first = resolve("owner/model")
    fake.commit(repository(tmp_path, seed=1))
    fake.before_weights = lambda: fake.statuses.extend([429])
    assert resolve("owner/model") != resolve_first


@pytest.mark.parametrize(("status", "text"), [(429, "slow down .429."), (503, "answered 503")])
def test_a_hub_that_keeps_refusing_is_told(fake, tmp_path, status, text):
    fake.commit(repository(tmp_path))
    fake.statuses = [status] * 200
    with pytest.raises(DownloadError, match=text) as error:
        resolve("owner/model")
    assert "\n" not in str(error.value)


def test_the_token_never_leaves_the_hub_for_the_file_server(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fake.gated_for = "hf_secret"
    fake.commit(repository(tmp_path))
    resolve("owner/model")
    headers = {path: sent for _, path, sent in fake.requests}
    assert any(path.startswith("/cdn/") for path in headers)
    for path, sent in headers.items():
        assert ("authorization" in {name.lower() for name in sent}) == (
            not path.startswith("/cdn/")
        )


def test_a_gated_repository_says_where_to_accept(fake, tmp_path, monkeypatch):
    fake.commit(repository(tmp_path))
    fake.gated_for = "hf_right"
    with pytest.raises(DownloadError, match=r"gated. Accept its conditions at http.*HF_TOKEN"):
        resolve("owner/model")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DownloadError, match="your HF_TOKEN has no access") as error:
        resolve("owner/model")
    assert "hf_wrong" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert read_config(resolve("owner/model")) == CONFIG


def test_bytes_that_are_not_the_promised_ones_are_removed(fake, tmp_path):
    files = repository(tmp_path)
    fake.commit(files)
    fake.corrupt = {"model.safetensors"}
    with pytest.raises(DownloadError, match="sha256 differs.*removed"):
        resolve("owner/model")
    assert files["model.safetensors"][:-1] not in [
        path.read_bytes()[:-1] for path in blobs(tmp_path)
    ]
    fake.corrupt = set()
    directory = resolve("owner/model")
    assert (directory / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_blob_that_rots_in_the_cache_is_found_again(fake, tmp_path):
    fake.commit(repository(tmp_path))
    directory = resolve("owner/model")
    path = (directory / "model.safetensors").resolve()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(0, 0))
    with pytest.raises(DownloadError, match="sha256 differs"):
        resolve("owner/model")
    assert read_config(resolve("owner/model")) == CONFIG


def test_a_file_of_the_wrong_size_is_told(fake, tmp_path):
    fake.commit(repository(tmp_path))
    fake.shorten = {"model.safetensors"}
    with pytest.raises(DownloadError, match="wrong size"):
        resolve("owner/model")
    assert "model.safetensors" not in [path.name for path in tmp_path.rglob("snapshots/*/*")]


def test_a_branch_that_moves_gives_the_new_files_and_never_a_mixture(fake, tmp_path):
    old, new = repository(tmp_path, seed=0), repository(tmp_path, seed=1)
    first = fake.commit(old)
    fake.before_weights = lambda: fake.commit(new)  # between config and weights
    directory = resolve("owner/model")
    assert directory.name == first
    assert (directory / "model.safetensors").read_bytes() == old["model.safetensors"]
    moved = resolve("owner/model")
    assert moved.name == fake.branches["main"] != first
    assert (moved / "model.safetensors").read_bytes() == new["model.safetensors"]
    assert resolve("owner/model", revision=first) == directory


def test_a_revision_that_does_not_exist_is_told(fake, tmp_path):
    fake.commit(repository(tmp_path))
    for revision in ("v9", "0" * 40):
        with pytest.raises(DownloadError, match=f"no revision '{revision}'"):
            resolve("owner/model", revision=revision)


def test_an_unknown_repository_is_told_with_the_nearest(fake):
    with pytest.raises(DownloadError, match="Did you mean 'OpenGVLab/InternVL-Chat-V1-5'"):
        resolve("OpenGVLab/InternVL-Chat-V1.5")


def test_a_repository_without_safetensors_is_told(fake, tmp_path):
    files = repository(tmp_path)
    del files["model.safetensors"]
    fake.commit(files)
    with pytest.raises(DownloadError, match="only .safetensors weights are read"):
        resolve("owner/model")
    assert "pytorch_model.bin" not in fake.fetched()


@pytest.mark.parametrize("name", ["../../etc/x.safetensors", "*.safetensors", "a/b.safetensors", 7])
def test_an_index_cannot_ask_for_strange_files(fake, tmp_path, name):
    files = {
        "config.json": json.dumps(config_to_released(CONFIG)).encode(),
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": name}}).encode(),
        "secret.safetensors": b"x",
        "a/b.safetensors": b"x",
    }
    fake.commit(files)
    with pytest.raises(DownloadError, match="only .safetensors weights"):
        resolve("owner/model")
    assert not any("/cdn/" in path for _, path, _ in fake.requests)


@pytest.mark.parametrize("flag", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_flags_use_the_cache_and_open_no_connection(fake, tmp_path, monkeypatch, flag):
    fake.commit(repository(tmp_path))
    monkeypatch.setenv(flag, "1")
    with pytest.raises(DownloadError, match="not wholly, in the hub's cache.*HF_HUB_OFFLINE"):
        resolve("owner/model")
    monkeypatch.delenv(flag)
    directory = resolve("owner/model")
    monkeypatch.setenv(flag, "1")
    monkeypatch.setattr(socket, "socket", None)
    count = len(fake.requests)
    assert resolve("owner/model") == directory
    assert len(fake.requests) == count


def test_an_incomplete_cache_is_not_taken_for_a_checkpoint_offline(fake, tmp_path, monkeypatch):
    fake.commit(repository(tmp_path, shards=3))
    directory = resolve("owner/model")
    (directory / "model-00002-of-00003.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError):
        resolve("owner/model")


def test_a_hub_that_cannot_be_reached_is_told_and_the_cache_serves(fake, tmp_path, monkeypatch):
    fake.commit(repository(tmp_path))
    directory = resolve("owner/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("owner/model") == directory
    with pytest.raises(DownloadError, match="cannot be reached"):
        resolve("owner/another")


def test_the_environment_alone_points_the_library_at_a_mirror(fake, tmp_path):
    fake.commit(repository(tmp_path))
    code = (
        "import sys; from tessera.checkpoint.hub import resolve;"
        "sys.stdout.write(str(resolve('owner/model'))); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "home" / "hub" / "models--owner--model"))
    assert done.stderr == ""
