import os

import pytest

from tessera.checkpoint.values import Fields, local_file, parse_json, read_json_object, show
from tessera.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "line 1"),
        (b"", "line 1"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "NaN"),
        (b'{"a": \xff}', "UTF-8"),
        (b"[" * 200_000, "nested"),
        (b"9" * 10_000, "thousands of digits"),
    ],
)
def test_json_that_is_not_json_is_named_in_one_line(text, reason):
    with pytest.raises(CheckpointError, match=reason) as error:
        parse_json(text, "DIR/x.json")
    assert "\n" not in str(error.value)


def test_a_json_file_is_read_to_its_limit_and_no_further(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}' + " " * 100)
    assert read_json_object(tmp_path, "a.json") == {"a": 1}
    with pytest.raises(CheckpointError, match="larger than 50 bytes"):
        read_json_object(tmp_path, "a.json", limit=50)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="JSON object"):
        read_json_object(tmp_path, "a.json")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "x\0", "missing"]
)
def test_only_plain_names_of_present_files_are_opened(tmp_path, name):
    with pytest.raises(CheckpointError):
        local_file(tmp_path, name)


def test_a_link_may_stay_in_the_directory_but_not_leave_it(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "real").write_text("x")
    (tmp_path / "outside").write_text("secret")
    (directory / "inner").symlink_to("real")
    (directory / "outer").symlink_to("../outside")
    (directory / "loop").symlink_to("loop")
    assert local_file(directory, "inner").read_text() == "x"
    for name in ("outer", "loop"):
        with pytest.raises(CheckpointError):
            local_file(directory, name)


@pytest.mark.parametrize("shared", [False, True])
def test_links_into_the_blobs_of_the_hub_cache_work(tmp_path, shared):
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    blob = repository / "blobs" / "f00d"
    if shared:
        (tmp_path / "blobs" / "ab").mkdir(parents=True)
        (tmp_path / "blobs" / "ab" / "abcd").write_text("x")
        blob.symlink_to("../../blobs/ab/abcd")
    else:
        blob.write_text("x")
    (snapshot / "config.json").symlink_to("../../blobs/f00d")
    assert local_file(snapshot, "config.json").read_text() == "x"
    (tmp_path / "other").write_text("secret")
    (snapshot / "bad").symlink_to("../../../other")
    with pytest.raises(CheckpointError, match="link out"):
        local_file(snapshot, "bad")


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            local_file(tmp_path, name)


def test_fields_are_typed_and_remember_what_was_read():
    fields = Fields({"a": 1, "b": None, "c": [1, 2.5], "d": {}}, where="W", prefix="p.")
    assert fields.integer("a", 5, high=9) == 1
    assert fields.integer("b", 5, high=9) == 5
    assert fields.numbers("c", low=0, high=9, most=2) == (1.0, 2.5)
    assert fields.numbers("absent", low=0, high=9, most=2) == ()
    assert fields.unread([]) == ["p.d"]
    assert fields.section("d").prefix == "p.d."
    for wrong in ([True], ["1"], [1e9], "x", [1] * 3):
        with pytest.raises(ConfigError, match="W: p.c"):
            Fields({"c": wrong}, where="W", prefix="p.").numbers("c", low=0, high=9, most=2)


def test_shown_values_are_short_and_printable():
    assert show("a\nb\x1b[31m\ud800") == "'a\\nb\\x1b[31m\\ud800'"
    assert len(show("x" * 10_000)) < 100
    assert show([1] * 1000) == "a list of 1000 entries"
    assert show({"a": 1}) == "an object of 1 entries"
