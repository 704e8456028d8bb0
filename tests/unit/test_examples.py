import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tessera.data.sources.splits import SIXTY_FILE, is_held_out
from tessera.data.sources.titles import concept_key
from tessera.processing.image import open_image

FOLDER = Path(__file__).resolve().parents[2] / "examples"
LISTED = json.loads((FOLDER / "examples.json").read_text(encoding="utf-8"))
KINDS = {
    "illustration",
    "flag",
    "photograph",
    "receipt",
    "bar chart",
    "page of text",
    "scene to count",
    "wide panorama",
    "tall screenshot",
    "Chinese sign",
}
README = (FOLDER / "README.md").read_text(encoding="utf-8")

each = pytest.mark.parametrize("example", LISTED, ids=lambda example: example["file"])


def test_there_is_one_picture_of_each_of_the_ten_kinds():
    assert len(LISTED) == 10
    assert {example["kind"] for example in LISTED} == KINDS


def test_no_file_of_the_folder_is_unlisted():
    listed = {example["file"] for example in LISTED} | {"README.md", "examples.json"}
    assert {path.name for path in FOLDER.iterdir()} == listed


@each
def test_every_example_names_licence_origin_question_and_whether_it_is_rendered(example):
    for key in ("what", "question", "expected", "licence", "origin"):
        assert example[key].strip(), key
    assert isinstance(example["rendered"], bool)


@each
def test_every_licence_allows_redistribution(example):
    allowed = ("MIT", "Apache-2.0", "CC0-1.0", "public domain")
    assert example["licence"].startswith(allowed)


@each
def test_every_picture_opens_and_is_large_enough_to_read(example):
    image = open_image(FOLDER / example["file"])
    assert image.mode == "RGB"
    assert max(image.size) >= 448
    assert image.getextrema() != ((255, 255),) * 3


@each
def test_every_file_is_what_its_name_says_and_at_most_400_kb(example):
    path = FOLDER / example["file"]
    with Image.open(path) as image:
        assert {".png": "PNG", ".jpg": "JPEG"}[path.suffix] == image.format
    assert path.stat().st_size <= 400_000


def test_all_pictures_together_take_at_most_two_and_a_half_megabytes():
    assert sum((FOLDER / example["file"]).stat().st_size for example in LISTED) <= 2_500_000


def test_the_panorama_is_wide_and_the_screenshot_tall():
    sizes = {e["kind"]: open_image(FOLDER / e["file"]).size for e in LISTED}
    assert sizes["wide panorama"][0] >= 4 * sizes["wide panorama"][1]
    assert sizes["tall screenshot"][1] >= 3 * sizes["tall screenshot"][0]


@pytest.mark.parametrize("kind", ["illustration", "flag"])
def test_the_illustration_and_the_flag_are_of_concepts_held_out_of_training(kind):
    title = next(example["held_out"] for example in LISTED if example["kind"] == kind)
    assert is_held_out(concept_key(title))


def test_the_illustration_and_the_flag_are_not_among_the_sixty_that_are_scored():
    scored = {record["title"] for record in json.loads(SIXTY_FILE.read_text(encoding="utf-8"))}
    assert scored.isdisjoint({example["held_out"] for example in LISTED})


@each
def test_the_readme_shows_every_picture_with_its_question_and_licence(example):
    row = next(line for line in README.splitlines() if f'src="{example["file"]}"' in line)
    for key in ("question", "expected", "licence", "origin"):
        assert example[key] in row, key
    assert row.rstrip().endswith("| rendered |") is example["rendered"]


def test_the_readme_has_a_block_for_the_answers():
    assert re.search(r"<!-- answers -->.*<!-- /answers -->", README, re.S)


def test_the_list_is_the_one_the_script_writes():
    script = (FOLDER.parent / "dev" / "make_examples.py").read_text(encoding="utf-8")
    for example in LISTED:
        assert f'file="{example["file"]}"' in script
        assert example["question"] in script
