"""Word pictures of GCompris, from a tiny Qt resource file that the test writes itself."""

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tessera.data.sources import build, manifest, rcc, split
from tessera.data.sources import gcompris as source
from tessera.data.sources.gcompris import Word, read_words, word_drawings
from tessera.data.sources.kinds import KINDS
from tessera.data.sources.rcc import resources
from tessera.errors import UserError

RESOURCE = "gcompris/src/activities/lang/resource"
HEADER = 24
NODE = 22


def write_rcc(
    files: dict[str, bytes], *, version: int = 3, compress: tuple[str, ...] = (".json",)
) -> bytes:
    """Write a Qt resource file: tree, then data, then names; children of a folder are in a row."""
    nodes: list[tuple[str, dict | bytes | None]] = [("", _folders(files))]
    tree = data = names = b""
    for name, content in nodes:
        encoded = name.encode("utf-16-be")
        entry = struct.pack(">I", len(names))
        names += struct.pack(">HI", len(encoded) // 2, 0) + encoded
        if isinstance(content, dict):
            entry += struct.pack(">HII", 2, len(content), len(nodes))
            nodes.extend(content.items())  # the loop goes on over what is added here
        else:
            flags, stored = 0, content or b""
            if name.endswith(compress):
                flags, stored = 1, struct.pack(">I", len(stored)) + zlib.compress(stored)
            entry += struct.pack(">HHHI", flags, 0, 0, len(data))
            data += struct.pack(">I", len(stored)) + stored
        tree += entry + (bytes(8) if version > 1 else b"")
    starts = (version, HEADER, HEADER + len(tree), HEADER + len(tree) + len(data))
    return b"qres" + struct.pack(">5I", *starts, 0) + tree + data + names


def _folders(files: dict[str, bytes]) -> dict:
    root: dict = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        folder = root
        for part in folders:
            folder = folder.setdefault(part, {})
        folder[name] = content
    return root


def webp(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, format="WEBP")
    return stream.getvalue()


def listing(lessons: dict[str, list[str]]) -> bytes:
    chapter = {
        "content": [
            {
                "name": lesson,
                "content": [{"description": w.partition("-")[0], "image": f"{w}.webp"} for w in ws],
            }
            for lesson, ws in lessons.items()
        ]
    }
    return json.dumps([chapter]).encode()


def lang_rcc(**changes: bytes) -> bytes:
    lessons = {
        "animal": ["bee", "animal", "mouse"],
        "color": ["orange-color", "blue"],
        "fruit": ["orange"],
        "people": ["man"],
    }
    files = {
        "words_sample.json": listing(lessons),
        "content-zh_CN.json": json.dumps({"bee.ogg": "蜜蜂", "orange.ogg": "orange"}).encode(),
        "lang.js": b"// code",
    }
    pictures = {f"words_sample/{w}.webp": webp() for ws in lessons.values() for w in ws}
    found = {**files, **pictures, **changes}
    return write_rcc({f"{RESOURCE}/{name}": content for name, content in found.items()})


def test_words_of_a_known_kind_become_test_material() -> None:
    found = {drawing.name: drawing for drawing in word_drawings(lang_rcc())}
    assert list(found) == ["gcompris-bee", "gcompris-mouse", "gcompris-orange"]
    bee = found["gcompris-bee"]
    assert (bee.title, bee.title_zh, bee.concept, bee.kind) == ("bee", "蜜蜂", "bee", "bug")
    assert bee.content == webp()
    assert bee.licence == "CC-BY-SA-3.0"
    assert found["gcompris-orange"].title_zh is None  # its translation is the English word
    assert not any(drawing.trainable for drawing in found.values())
    assert {drawing.kind for drawing in found.values()} <= set(KINDS)


@pytest.mark.parametrize(
    ("lesson", "stem", "kind"),
    [
        ("animal", "mouse", "mammal"),
        ("fruit", "orange", "fruit"),
        ("color", "orange", None),
        ("number", "seven", None),
        ("animal", "reptile", None),
        ("bodyparts", "mouth", "part of the body"),
        ("bodyparts", "nose", None),
        ("people", "girl", "person"),
        ("people", "woman", None),
    ],
)
def test_a_word_has_a_kind_only_if_its_picture_shows_that_and_nothing_else(
    lesson: str, stem: str, kind: str | None
) -> None:
    assert Word(lesson=lesson, stem=stem, title=stem, title_zh=None).kind == kind


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_resource_file_of_every_known_version_is_read(version: int) -> None:
    files = {"a/b.json": b"{}" * 50, "a/c/d.webp": b"picture", "e.txt": b"text", "é.webp": b""}
    written = write_rcc(files, version=version)
    assert dict(resources(written, label="x", suffixes=("",))) == {
        f"/{path}": content for path, content in files.items()
    }
    assert list(resources(written, label="x", suffixes=("d.webp",))) == [
        ("/a/c/d.webp", b"picture")
    ]


def patched(offset: int, number: int, *, size: int = 4) -> bytes:
    """Overwrite a number of a file that holds one folder "a" with one compressed file in it."""
    good = write_rcc({"a/b.json": b"{}" * 50})
    return good[:offset] + number.to_bytes(size, "big") + good[offset + size :]


ROOT, FOLDER, FILE = HEADER, HEADER + NODE, HEADER + 2 * NODE
DATA = HEADER + 3 * NODE
NAMES = len(write_rcc({"a/b.json": b"{}" * 50})) - 6 - 8 - 18  # "", "a" and "b.json"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin as one"),
        (b"PK\x03\x04" * 9, "does not begin as one"),
        (b"qres\0\0", "asked for, it has 6"),
        (patched(4, 9), "version is 9; 1, 2, 3 are known"),
        (patched(8, 2**32 - 1), "asked for"),
        (patched(12, 2**31), "asked for"),
        (patched(16, 2**31), "asked for"),
        (patched(ROOT + 6, 2**32 - 1), "asked for"),
        (patched(ROOT + 10, 2**30), "asked for"),
        (patched(ROOT + 10, 0), "a second time"),
        (patched(FOLDER + 10, 1), "a second time"),
        (patched(FOLDER, 2**29), "asked for"),
        (patched(FILE + 4, 4, size=2), "Zstandard"),
        (patched(FILE + 10, 2**30), "asked for"),
        (patched(DATA, 2**32 - 1), "asked for"),
        (patched(DATA, 2), "does not decompress"),
        (patched(DATA, 10), "does not decompress"),
        (patched(DATA + 4, 99), "the 99 bytes"),
        (patched(DATA + 4, 101), "the 101 bytes"),
        (patched(DATA + 4, 2**31), "at most 64000000 are left"),
        (patched(DATA + 8, 0), "does not decompress"),
        (patched(NAMES + 6, 0, size=2), "is empty, too long or a path"),
        (patched(NAMES + 6 + 6, ord("/"), size=2), "is empty, too long or a path"),
        (patched(NAMES + 6 + 6, 0xDC00, size=2), "not UTF-16"),
    ],
)
def test_a_damaged_resource_file_is_refused_with_its_name(content: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        list(resources(content, label="lang.rcc", suffixes=(".json",)))
    assert str(caught.value).startswith("lang.rcc is no Qt resource file that can be read: ")
    assert said in str(caught.value)
    assert "build again" in str(caught.value)


def _read_or_refusal(content: bytes) -> dict[str, bytes] | UserError:
    try:
        return dict(resources(content, label="x", suffixes=(".json", ".webp")))
    except UserError as error:
        return error


def test_no_single_broken_byte_leads_to_another_error_than_the_clear_one() -> None:
    good = write_rcc({"a/b.json": b"{}" * 50, "a/c.webp": b"picture"})
    for offset in range(len(good)):
        for value in (0, 1, 2, 127, 255):
            broken = good[:offset] + bytes([value]) + good[offset + 1 :]
            found = _read_or_refusal(broken)
            assert not isinstance(found, UserError) or str(found).startswith("x is no Qt resource")
    for length in range(len(good) - 1):
        with pytest.raises(UserError):
            list(resources(good[:length], label="x", suffixes=(".json", ".webp")))


def test_many_files_may_not_share_one_large_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcc, "MAX_BYTES", 250)
    shared = write_rcc({f"{n}.json": b"{}" * 50 for n in range(3)})
    with pytest.raises(UserError, match="100 bytes where at most 50 are left"):
        list(resources(shared, label="x", suffixes=(".json",)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words_sample.json": b"{"}, "words_sample.json is not JSON"),
        ({"words_sample.json": b"[" * 100_000}, "words_sample.json is not JSON"),
        ({"words_sample.json": b"[1]"}, "not a list of words"),
        ({"words_sample.json": b"{}1"}, "not JSON"),
        ({"words_sample.json": b'[{"content": [{"name": "a"}]}]'}, "not a list of words"),
        ({"content-zh_CN.json": b"[]"}, "not a list of words"),
        ({"content-zh_CN.json": b"\xff\xff"}, "content-zh_CN.json is not JSON"),
        ({"words_sample.json": listing({"animal": ["owl"]})}, "words_sample/owl.webp is missing"),
    ],
)
def test_a_bad_word_list_is_an_error_that_names_the_package(
    changes: dict[str, bytes], said: str
) -> None:
    with pytest.raises(UserError, match="build again") as caught:
        list(word_drawings(lang_rcc(**changes)))
    assert str(caught.value).startswith("debian:gcompris-qt-data@3.1-2: ")
    assert said in str(caught.value)


def test_a_resource_file_without_the_word_list_says_so() -> None:
    with pytest.raises(UserError, match=r"words_sample.json is missing"):
        list(word_drawings(write_rcc({"a.webp": webp()})))


def test_words_are_read_with_their_lesson() -> None:
    (word,) = read_words(listing({"color": ["orange-color"]}), b'{"orange-color.ogg": "\\u6a59"}')
    assert word == Word(lesson="color", stem="orange-color", title="orange", title_zh="橙")


def test_word_pictures_are_built_on_request_and_never_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [("./usr/share/gcompris-qt/rcc/lang.rcc", lang_rcc())]
    monkeypatch.setattr(source, "fetch", lambda package, cache: cache / package.file_name)
    monkeypatch.setattr(source, "members", lambda archive, suffixes: iter(held))
    built = build(tmp_path, sources=["gcompris"], processes=1)
    assert [picture.path.name for picture in built] == [
        "gcompris-bee.png",
        "gcompris-mouse.png",
        "gcompris-orange.png",
    ]
    assert {split(picture) for picture in built} == {"test material"}
    held.clear()
    with pytest.raises(UserError, match=r"holds 0 files /gcompris-qt/rcc/lang.rcc"):
        list(source.drawings(tmp_path))


def test_folders_built_before_there_were_word_pictures_stay_valid(tmp_path: Path) -> None:
    stamp = {"recipe": 1, "sources": ["emoji", "openclipart", "stamps"]}
    (tmp_path / "built.json").write_text(json.dumps(stamp))
    (tmp_path / "manifest.jsonl").write_text("")
    assert build(tmp_path) == []
    assert set(manifest.SOURCES) == {*manifest.DEFAULT_SOURCES, "gcompris"}
