"""Captioned pictures: titles, kinds, answers, splits and the build, from tiny fake packages."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tessera.data.sources import KINDS, answer, sentence, split
from tessera.data.sources import manifest as manifest_module
from tessera.data.sources.clipart import Entry, caption_of, clean, clipart_concept, stated_title
from tessera.data.sources.clipart_kinds import IN_FOLDER, NOUN_KINDS, TITLE_KINDS
from tessera.data.sources.emoji import emoji_title, icon_code, name_table, read_labels
from tessera.data.sources.emoji_kinds import LABEL_KINDS, SUBGROUP_KINDS, emoji_kind
from tessera.data.sources.fetch import Package, fetch, members
from tessera.data.sources.kinds import phrase
from tessera.data.sources.picture import CaptionedPicture, Drawing
from tessera.data.sources.render import render
from tessera.data.sources.splits import (
    HELD_OUT_HAND,
    SIXTY_FILE,
    draw_sixty,
    is_held_out,
    read_sixty,
    write_sixty,
)
from tessera.data.sources.stamps import parse_caption
from tessera.data.sources.titles import concept_key, flag_title, with_article
from tessera.errors import UserError

SQUARE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt">'
    b'<rect width="40" height="20" fill="red"/></svg>'
)


def picture(concept: str = "magpie", *, hand: str = "noto", **changes: object) -> CaptionedPicture:
    fields = {
        "path": Path(f"{hand}-{concept}.png"),
        "concept": concept,
        "title": concept,
        "title_zh": None,
        "kind": "bird",
        "hand": hand,
        "source": "test",
        "licence": "MIT",
        "trainable": True,
    }
    return CaptionedPicture(**{**fields, **changes})  # type: ignore[arg-type]


def drawing(content: bytes, name: str = "square") -> Drawing:
    fields = vars(picture())
    return Drawing(name=name, content=content, **{k: v for k, v in fields.items() if k != "path"})


def npm_archive(folder: Path, files: dict[str, object]) -> Path:
    archive = folder / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("magpie", "a magpie"),
        ("ice cream cone", "an ice cream cone"),
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("scissors", "scissors"),
        ("glasses", "glasses"),
        ("bus", "a bus"),
        ("bread", "bread"),
        ("loaf of bread", "a loaf of bread"),
        ("pot of food", "a pot of food"),
        ("flag of Japan", "the flag of Japan"),
        ("two-hump camel", "a two-hump camel"),
        ("two hearts", "two hearts"),
        ("woman juggling", "a woman juggling"),
        ("seven o'clock", "seven o'clock"),
        ("ATM sign", "an ATM sign"),
        ("8 of clubs playing card", "an 8 of clubs playing card"),
    ],
)
def test_titles_get_the_article_that_english_gives_them(title: str, expected: str) -> None:
    assert with_article(title) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bee 2 (B and W)", "bee"),
        ("cats", "cat"),
        ("Ladybug", "lady beetle"),
        ("flag of Guinea Bissau", "flag of Guinea-Bissau"),
        ("cherries", "cherry"),
        ("leaves", "leaf"),
    ],
)
def test_one_concept_has_one_key_whatever_the_source_calls_it(one: str, other: str) -> None:
    assert concept_key(one) == concept_key(other)


def test_a_variant_is_a_concept_of_its_own() -> None:
    assert concept_key("cat with tears of joy") != concept_key("cat")
    assert concept_key("number 1 on a key") != concept_key("number 2 on a key")


def test_flags_know_which_places_take_the() -> None:
    assert flag_title("Netherlands") == "flag of the Netherlands"
    assert flag_title("Viet Nam") == "flag of Vietnam"
    assert flag_title("Antigua & Barbuda") == flag_title("Antigua and Barbuda")


def test_answers_name_the_kind_and_then_the_thing_but_nothing_twice() -> None:
    assert answer(picture("magpie")) == "a bird, perhaps a magpie"
    assert phrase("bug", "ladybird") == "a bug, perhaps a ladybird"
    assert phrase("electronic device", "laptop") == "an electronic device, perhaps a laptop"
    assert phrase("money", "coin") == "money, perhaps a coin"
    assert phrase("bird", "bird") == "a bird"
    assert sentence(picture("magpie")) == "A bird, perhaps a magpie."
    with pytest.raises(ValueError, match="not a kind"):
        phrase("birdie", "magpie")


def test_every_kind_of_every_table_is_one_of_the_kinds() -> None:
    tables = (SUBGROUP_KINDS, LABEL_KINDS, NOUN_KINDS, IN_FOLDER, TITLE_KINDS)
    used = {kind for table in tables for kind in table.values() if kind is not None}
    assert used <= set(KINDS)
    assert len(KINDS) >= 20
    assert all(KINDS.values())


def test_emoji_labels_become_noun_phrases() -> None:
    assert emoji_title("flag: Japan", "country-flag") == "flag of Japan"
    assert emoji_title("keycap: 3", "keycap") == "number 3 on a key"
    assert emoji_title("man: red hair", "person") == "man with red hair"
    assert emoji_title("woman: bald", "person") == "bald woman"
    assert emoji_title("CL button", "alphanum") == "letters CL on a button"
    assert emoji_title("no entry", "warning") == "no entry sign"
    assert emoji_title("family: man, boy", "family") is None
    assert emoji_kind("spider web", "animal-bug") is None
    assert emoji_kind("Japanese “here” button", "alphanum") == "sign"


def test_emoji_are_matched_by_code_or_by_name(tmp_path: Path) -> None:
    entry = {"hexcode": "1F426", "label": "bird", "subgroup": 0}
    cook = {"hexcode": "1F469-200D-1F373", "label": "woman cook", "subgroup": 1}
    archive = npm_archive(
        tmp_path,
        {
            "en/data.json": [entry, cook, {"hexcode": "1F1E6", "label": "regional indicator A"}],
            "zh/data.json": [{"hexcode": "1F426", "label": "鸟"}],
            "meta/groups.json": {"subgroups": {"0": "animal-bird", "1": "person-role"}},
        },
    )
    labels = read_labels(archive)
    assert set(labels) == {"1f426", "1f469-200d-1f373"}
    assert labels["1f426"].title_zh == "鸟"
    assert labels["1f469-200d-1f373"].concept == "cook"
    names = name_table(labels, {"1F426": "FEATHERED FRIEND"})
    assert icon_code("bird-1", names) == "1f426"
    assert icon_code("featheredfriend", names) == "1f426"
    assert icon_code("womancook", names) == "1f469-200d-1f373"
    assert icon_code("nothing", names) is None


def entry(folder: str, stem: str, title: str = "") -> Entry:
    return Entry(folder=folder, stem=stem, title=title, content=b"")


@pytest.mark.parametrize(
    ("folder", "stem", "title", "expected"),
    [
        ("animals/bugs", "bee2_mimooh_01", "bee2", ("bee", "bug")),
        ("animals/birds", "gabbiano_01", "Gabbiano", ("seagull", "bird")),
        ("computer/hardware", "mouse_01", "mouse", ("computer mouse", "electronic device")),
        ("animals/mammals", "topo_01", "topo", ("mouse", "mammal")),
        ("transportation/aiga-symbols", "aiga_taxi_", "AIGA", ("taxi sign", "sign")),
        ("shapes/arrows", "arrow-left-green_x", "", ("green arrow pointing left", "arrow")),
        ("recreation/games/cards/simple", "simple_h_q", "card",
         ("queen of hearts playing card", "toy or game")),
        ("signs_and_symbols/flags/africa", "kenya", "kenya", ("flag of Kenya", "flag")),
        ("geography", "map_of_scotland_01", "Map of Scotland", ("map of Scotland", "map")),
        ("people", "michel", "Michel Dupont", None),
        ("signs_and_symbols/flags/asia", "x", "Israeli Flag", None),
    ],
)  # fmt: skip
def test_clip_art_is_taken_only_where_its_title_ends_in_a_known_noun(
    folder: str, stem: str, title: str, expected: tuple[str, str] | None
) -> None:
    assert caption_of(entry(folder, stem, title), is_collection=False) == expected


def test_a_title_that_names_a_collection_gives_way_to_the_file_name() -> None:
    apple = entry("food/fruit", "pear_simple_someone", "Fruit Collection")
    assert caption_of(apple, is_collection=True) == ("pear", "fruit")
    assert caption_of(entry("animals", "zz9", "Lemon SVG theme"), is_collection=True) is None


def test_clip_art_titles_are_cleaned() -> None:
    assert clean("Onion_Rings (B and W) 02") == "onion rings"
    assert stated_title(b"<dc:title>L&amp;atilde;mp\n x</dc:title>") == "Lãmp x"
    assert clipart_concept("9 of clubs playing card") == "playing card"


def test_stamp_captions_are_taken_only_in_their_plain_form() -> None:
    assert parse_caption("A red apple.\nzh_CN.utf8=一个红苹果。\n") == ("red apple", "红苹果")
    assert parse_caption("Eat your bread!\n") is None
    assert parse_caption("") is None


def test_a_concept_is_held_out_from_every_hand_and_every_source() -> None:
    concepts = [f"thing {n}" for n in range(2000)]
    held_out = [c for c in concepts if is_held_out(c)]
    assert 0.09 < len(held_out) / len(concepts) < 0.15
    for concept in held_out[:20]:
        hands = [picture(concept, hand=hand) for hand in ("noto", "openclipart", HELD_OUT_HAND)]
        assert {split(p) for p in hands} == {"held-out concept"}
    known = next(c for c in concepts if not is_held_out(c))
    assert split(picture(known)) == "train"
    assert split(picture(known, hand=HELD_OUT_HAND)) == "held-out hand"
    assert split(picture(known, trainable=False)) == "test material"


def test_the_split_is_the_same_on_every_machine() -> None:
    assert [is_held_out(c, seed=1) for c in ("cat", "dog", "magpie", "flag of Japan")] == [
        int.from_bytes(hashlib.sha256(f"1:{c}".encode()).digest()[:8], "big") / 2**64 < 0.12
        for c in ("cat", "dog", "magpie", "flag of Japan")
    ]


def test_the_sixty_do_not_depend_on_the_order_of_the_pictures(tmp_path: Path) -> None:
    pictures = [
        picture(f"{kind} {n}", kind=kind, hand=hand)
        for kind in list(KINDS)[:25]
        for n in range(60)
        for hand in ("noto", "twemoji")
    ]
    drawn = draw_sixty(pictures)
    assert drawn == draw_sixty(reversed(pictures))
    assert len(drawn) == len({p.concept for p in drawn}) == 60
    assert len({p.kind for p in drawn}) == 20
    (tmp_path / "a.png").write_bytes(b"x")
    one = [picture(path=tmp_path / "a.png")]
    write_sixty(one, tmp_path / "sixty.json")
    assert read_sixty(one, tmp_path / "sixty.json") == one
    with pytest.raises(UserError, match="not among the built"):
        read_sixty([], tmp_path / "sixty.json")


def test_the_committed_sixty_are_held_out_and_balanced() -> None:
    records = json.loads(SIXTY_FILE.read_text(encoding="utf-8"))
    kinds = [record["kind"] for record in records]
    assert len(records) == 60
    assert all(kinds.count(kind) == 3 for kind in set(kinds))
    assert all(is_held_out(record["concept"]) for record in records)
    assert set(kinds) <= set(KINDS)


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    good = Package(
        registry="npm", name="@a/b", version="1", licence="MIT",
        sha256=hashlib.sha256(b"good").hexdigest(),
    )  # fmt: skip
    calls = []

    def download(content: bytes) -> object:
        def run(package: Package, folder: Path) -> Path:
            calls.append(package.label)
            (folder / "x.tgz").write_bytes(content)
            return folder / "x.tgz"

        return run

    with pytest.raises(UserError, match="expected"):
        fetch(good, tmp_path, run=download(b"bad"))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.tgz"))
    archive = fetch(good, tmp_path, run=download(b"good"))  # type: ignore[arg-type]
    assert fetch(good, tmp_path) == archive
    assert calls == ["npm:@a/b@1"] * 2


def test_sources_of_debian_say_that_they_need_debian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    package = Package(registry="debian", name="a", version="1", sha256="", licence="GPL-2.0-only")
    with pytest.raises(UserError, match="Debian"):
        fetch(package, tmp_path)
    (tmp_path / "a.deb").write_bytes(b"")
    with pytest.raises(UserError, match="Debian"):
        list(members(tmp_path / "a.deb", suffixes=(".png",)))


def png(colour: tuple[int, int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (64, 32), colour).save(stream, format="PNG")
    return stream.getvalue()


def test_pictures_are_square_and_keep_their_transparency(tmp_path: Path) -> None:
    assert render(drawing(png((255, 0, 0, 255))), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as made:
        assert (made.size, made.mode) == ((256, 256), "RGBA")
        assert made.getpixel((128, 128)) == (255, 0, 0, 255)
        assert made.getpixel((128, 5))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("content", [png((0, 0, 0, 0)), png((255, 255, 255, 255)), b"nothing"])
def test_a_blank_or_broken_picture_is_left_out(tmp_path: Path, content: bytes) -> None:
    assert not render(drawing(content), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_an_svg_sized_in_points_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    assert render(drawing(SQUARE), tmp_path / "a.png")
    assert not render(drawing(SQUARE.replace(b"<rect", b"<text>a</text><rect")), tmp_path / "b.png")


def test_a_second_build_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake(cache: Path) -> object:
        calls.append(cache)
        yield drawing(png((0, 0, 255, 255)), "blue")
        yield drawing(png((0, 0, 0, 0)), "blank")

    monkeypatch.setattr(manifest_module, "SOURCES", {"fake": fake})
    built = manifest_module.build(tmp_path, sources=("fake",), processes=1)
    again = manifest_module.build(tmp_path, sources=("fake",), processes=1)
    assert built == again
    assert [p.path.name for p in built] == ["blue.png"]
    assert len(calls) == 1
    with pytest.raises(UserError, match="unknown source"):
        manifest_module.build(tmp_path, sources=("fakes",))


def test_reading_before_building_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="build the pictures first"):
        manifest_module.read_manifest(tmp_path)
