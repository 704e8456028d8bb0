import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tessera.errors import PromptError
from tessera.processing.grounding import Box, draw_boxes, format_boxes, parse_boxes
from tessera.processing.image import open_image

PIECES = st.sampled_from(
    ["<ref>", "</ref>", "<box>", "</box>", "[[", "]]", "[", "]", ",", " ", "\n", "cup", "12", "-3"]
    + ["1000", "0.5", "nan", "1e9", "猫", "9" * 30, "<quad>", "```"]
)


def test_one_phrase_with_several_boxes_becomes_pixels_of_the_original() -> None:
    text = "Here: <ref>the red cup</ref><box>[[100, 200, 300, 400], [0, 0, 1000, 1000]]</box>."
    found = parse_boxes(text, width=2000, height=500)
    assert found.problems == ()
    assert found.boxes == (
        Box("the red cup", (200, 100, 600, 200)),
        Box("the red cup", (0, 0, 2000, 500)),
    )


def test_a_list_of_phrases_inside_a_code_fence_is_read() -> None:
    text = (
        "```\n<ref>cat</ref><box>[[10,20,30,40]]</box>\n<ref>狗</ref><box>[[1, 2, 3, 4]]</box>\n```"
    )
    found = parse_boxes(text, width=1000, height=1000)
    assert [box.label for box in found.boxes] == ["cat", "狗"]
    assert found.boxes[0].pixels == (10, 20, 30, 40)


def test_boxes_whose_tags_the_decoder_dropped_are_read() -> None:
    found = parse_boxes("the red cat[[10, 20, 30, 40]]\ndog [[1,2,3,4]]", width=1000, height=1000)
    assert found.boxes == (Box("the red cat", (10, 20, 30, 40)), Box("dog", (1, 2, 3, 4)))


def test_the_older_scale_from_0_to_1_is_recognised() -> None:
    found = parse_boxes("<ref>a</ref><box>[[0.1, 0.2, 0.5, 1.0]]</box>", width=100, height=200)
    assert found.boxes == (Box("a", (10, 40, 50, 200)),)


def test_a_box_that_reaches_outside_is_cut_and_reported() -> None:
    found = parse_boxes("<ref>a</ref><box>[[-50, 0, 1200, 500]]</box>", width=100, height=100)
    assert found.boxes == (Box("a", (0, 0, 100, 50)),)
    assert "outside" in found.problems[0]


def test_swapped_corners_are_put_in_order() -> None:
    found = parse_boxes("<box>[[300, 400, 100, 200]]</box>", width=1000, height=1000)
    assert found.boxes == (Box("", (100, 200, 300, 400)),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<ref>a</ref><box>[[1, 2, 3]]</box>", "not four numbers"),
        ("<ref>a</ref><box>[[1, 2, 3, 4, 5]]</box>", "not four numbers"),
        ("<ref>a</ref><box>[[1, 2, nan, 4]]</box>", "not four numbers"),
        ("<ref>a</ref><box>[[5, 5, 5, 50]]</box>", "no area"),
        ("<ref>a</ref><box>[[1000, 5, 1200, 50]]</box>", "no area"),
        ("<ref>a</ref><box>[[oops]]</box>", "not four numbers"),
    ],
)
def test_a_malformed_box_is_reported_and_left_out(text: str, problem: str) -> None:
    found = parse_boxes(text + "<ref>b</ref><box>[[1,2,3,4]]</box>", width=1000, height=1000)
    assert problem in " ".join(found.problems)
    assert found.boxes == (Box("b", (1, 2, 3, 4)),)


def test_an_answer_cut_in_the_middle_of_a_list_keeps_its_whole_boxes() -> None:
    found = parse_boxes("<ref>a</ref><box>[[1, 2, 3, 4], [5, 6", width=1000, height=1000)
    assert found.boxes == (Box("a", (1, 2, 3, 4)),)
    assert len(found.problems) == 2


def test_a_thin_box_in_a_small_picture_keeps_one_pixel() -> None:
    found = parse_boxes("<box>[[500, 500, 501, 1000]]</box>", width=4, height=4)
    assert found.boxes[0].pixels == (2, 2, 3, 4)
    found = parse_boxes("<box>[[999, 999, 1000, 1000]]</box>", width=4, height=4)
    assert found.boxes[0].pixels == (3, 3, 4, 4)


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(PIECES, max_size=40), width=st.integers(1, 5000), height=st.integers(1, 5000)
)
def test_whatever_a_model_writes_every_box_lies_inside_the_picture(
    pieces: list[str], width: int, height: int
) -> None:
    for box in parse_boxes("".join(pieces), width=width, height=height).boxes:
        left, top, right, bottom = box.pixels
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    parse_boxes(text, width=10, height=10)


@settings(max_examples=200, deadline=None)
@given(
    box=st.tuples(*[st.integers(0, 1000)] * 4).filter(
        lambda box: box[0] < box[2] and box[1] < box[3] and sum(box) >= 4
    )
)
def test_formatting_undoes_parsing_where_pixels_are_fine_enough(
    box: tuple[int, int, int, int],
) -> None:
    text = f"<ref>x</ref><box>[[{box[0]}, {box[1]}, {box[2]}, {box[3]}]]</box>"
    found = parse_boxes(text, width=3000, height=2000)
    pixels = [one.pixels for one in found.boxes]
    assert format_boxes("x", pixels, width=3000, height=2000) == text


@pytest.mark.parametrize(
    "text",
    ["<ref>" * 200_000, "<box>" * 200_000, "[[" * 500_000, "[[1,2,3,4]]" * 100_000]
    + ["[[" + "1," * 500_000 + "]]", "<box>[[" + "9" * 1_000_000, "a" * 1_000_000 + "[[1,2,3,4]]"],
    ids=range(7),
)
def test_parsing_a_megabyte_of_nonsense_takes_less_than_two_seconds(text: str) -> None:
    start = time.perf_counter()
    parse_boxes(text, width=100, height=100)
    assert time.perf_counter() - start < 2.0


def test_an_answer_of_endless_boxes_is_cut_and_reported() -> None:
    found = parse_boxes("[[1,2,3,4]]" * 5000, width=100, height=100)
    assert len(found.boxes) == 1000
    assert "left out" in found.problems[-1]


def test_pixel_boxes_are_written_cut_to_the_picture() -> None:
    text = format_boxes("a", [(-5, 0, 50, 400), (1, 2, 3, 4)], width=100, height=200)
    assert text == "<ref>a</ref><box>[[0, 0, 500, 1000], [10, 10, 30, 20]]</box>"
    with pytest.raises(PromptError, match="left, top, right, bottom"):
        format_boxes("a", [(0, 0, float("nan"), 1)], width=10, height=10)  # type: ignore[list-item]
    with pytest.raises(PromptError, match="0 x 5"):
        parse_boxes("", width=0, height=5)


def test_boxes_are_in_the_frame_of_the_upright_picture() -> None:
    stored = Image.new("RGB", (40, 20), "white")  # lies on its side: 20 wide and 40 high for people
    stored.paste((255, 0, 0), (0, 0, 10, 20))  # its left quarter; turned, the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    upright = open_image(file.getvalue())
    assert upright.size == (20, 40)
    text = "<ref>red</ref><box>[[0, 0, 1000, 250]]</box>"
    (box,) = parse_boxes(text, width=upright.width, height=upright.height).boxes
    assert box.pixels == (0, 0, 20, 10)
    assert upright.crop(box.pixels).getcolors() == [(200, (255, 0, 0))]


def test_boxes_are_drawn_on_a_copy_with_any_label() -> None:
    image = Image.new("RGB", (200, 100), "white")
    labels = ["cup", "红色的杯子", "🐱 кот", "two\nlines\x07", "", "x" * 5000]
    boxes = [Box(label, (10 * i, 5 * i, 100, 90)) for i, label in enumerate(labels)]
    drawn = draw_boxes(image, boxes)
    assert drawn.size == image.size
    assert drawn.getpixel((50, 89)) != (255, 255, 255)
    assert image.getcolors() == [(200 * 100, (255, 255, 255))]


def test_a_box_outside_or_on_a_tiny_picture_is_drawn_without_an_error() -> None:
    for size in ((1, 1), (3, 2), (500, 20)):
        draw_boxes(Image.new("RGB", size), [Box("a", (-5, -5, 9999, 9999)), Box("b", (9, 9, 1, 1))])


def test_labels_are_drawn_without_freetype_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFont

    monkeypatch.setattr(
        "tessera.processing.grounding.ImageFont.load_default",
        lambda size=None: ImageFont.load_default_imagefont(),
    )
    draw_boxes(Image.new("RGB", (50, 50)), [Box("红色", (1, 1, 40, 40))])
