import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tessera.errors import ImageError
from tessera.processing.image import ImageLimits, open_image
from tessera.processing.picture_header import read_header
from tests.unit.processing.pictures import colours, encoded, png


def test_every_allowed_format_opens_as_rgb() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        image = open_image(encoded(colours(), kind, **options))
        assert (image.mode, image.size) == ("RGB", (24, 16)), kind
        assert type(image) is Image.Image
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(colours()))
        assert difference.mean() < 12, kind


def test_heif_opens_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(colours((64, 64))).save(file, quality=90)
    image = open_image(file.getvalue())
    assert (image.mode, image.size) == ("RGB", (64, 64))
    assert image.getpixel((5, 5))[0] > 200


def test_heif_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'tessera-vl\[media\]'"):
        open_image(b"\0\0\0\x18ftypheic" + b"\0" * 40)


def test_a_path_a_string_bytes_and_a_pillow_image_give_the_same(tmp_path: Path) -> None:
    data = encoded(colours(), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    expected = colours().tobytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), colours()):
        assert open_image(source).tobytes() == expected
    with Image.open(path) as lazy:
        assert open_image(lazy).tobytes() == expected


def test_the_bytes_decide_the_format_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(colours(), "JPEG"))
    assert open_image(tmp_path / "a.png").size == (24, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    turns = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = colours()
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(turn)  # the inverse of what EXIF asks
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(stored, kind, exif=exif))
    assert image.size == upright.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(upright)).mean() < 15
    assert open_image(image).tobytes() == image.tobytes()


def test_the_reference_mode_leaves_orientation_and_turns_transparency_black() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(colours(), "JPEG", exif=exif)
    assert open_image(data, mode="reference").size == (24, 16)
    assert open_image(data).size == (16, 24)
    clear = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")
    assert open_image(clear, mode="reference").getpixel((0, 0)) == (0, 0, 0)
    assert open_image(clear).getpixel((0, 0)) == (255, 255, 255)


def test_the_reference_mode_is_what_the_published_code_does(golden: Path) -> None:
    for path in sorted((golden / "images").iterdir()):
        published = Image.open(path).convert("RGB")
        assert open_image(path, mode="reference").tobytes() == published.tobytes()
    with pytest.raises(ImageError, match="'fast' does not exist"):
        open_image(colours(), mode="fast")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_costs_only_itself() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + os.urandom(50), b"Exif\0\0MM"):
        assert open_image(encoded(colours(), "JPEG", exif=exif)).size == (24, 16)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (9, 9), (40 * i, 0, 0)) for i in range(1, 5)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_image(data).getpixel((4, 4)) == (40, 0, 0), kind
    assert (
        read_header(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) is not None
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_are_counted_from_the_header(kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), (40 * i, 0, 0)) for i in range(1, 6)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    header = read_header(data)
    assert header is not None
    assert (header.num_frames, header.size) == (5, (9, 9))
    with pytest.raises(ImageError, match="has 5 frames, the limit is 4; save one frame"):
        open_image(data, limits=ImageLimits(max_frames=4))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_header_knows_the_size_before_the_decoder(kind: str) -> None:
    options = {"progressive": True} if kind == "JPEG" else {}
    header = read_header(encoded(colours((37, 21)), kind, **options))
    assert header is not None
    assert header.size == (37, 21)
    lossless = read_header(encoded(colours((37, 21)), "WEBP", lossless=True))
    assert lossless is not None
    assert lossless.size == (37, 21)


def test_a_picture_cut_short_is_an_error_and_never_half_grey(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP"):
        data = encoded(noise, kind)
        with pytest.raises(ImageError, match="ends too early|damaged"):
            open_image(data[: len(data) // 2])
    path = tmp_path / "half.jpg"
    path.write_bytes(encoded(noise, "JPEG")[:900])
    with pytest.raises(ImageError, match=r"half\.jpg is a JPEG picture that ends too early; save"):
        open_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"Dear diary,\ntoday", "text"),
        ("héllo wörld".encode(), "text"),
        ("text".encode("utf-16"), "text"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "an SVG drawing"),
        (b"  <svg>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04abc", "a zip archive or an office document"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"\0\0\0\x18ftypavif", "an AVIF picture"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\0\1\2\3\4", "not a picture in a format known here"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is {what}, not a picture") or what.startswith("not a")
    assert "JPEG, PNG, WebP, GIF, BMP, TIFF or HEIF" in message


def huge_png(width: int, height: int, bits: int = 8) -> bytes:
    return png(struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0), b"\0" * 1000)


def test_a_picture_of_50000_by_50000_is_refused_with_its_size_and_the_limit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(huge_png(50_000, 50_000))
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value) == (
        f"{path} is 50,000 x 50,000 pixels, the limit is 128,000,000 pixels and 65,535 per side;"
        " save it smaller"
    )


def test_limits_are_those_of_the_caller() -> None:
    data = encoded(colours(), "PNG")
    with pytest.raises(ImageError, match="24 x 16 pixels, the limit is 100 pixels"):
        open_image(data, limits=ImageLimits(max_pixels=100))
    with pytest.raises(ImageError, match="20 per side"):
        open_image(data, limits=ImageLimits(max_side=20))
    with pytest.raises(ImageError, match=r"MiB, the limit is 0\.0 MiB; save it smaller"):
        open_image(data, limits=ImageLimits(max_bytes=10))
    with pytest.raises(ImageError, match="the limit is 100 pixels"):
        open_image(colours(), limits=ImageLimits(max_pixels=100))
    with pytest.raises(ImageError, match="0 x 5"):
        open_image(Image.new("RGB", (0, 5)))


def test_what_is_no_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"photo\.jpg is empty \(0 bytes\); save or download"):
        open_image(tmp_path / "photo.jpg")
    with pytest.raises(ImageError, match=r"does not exist; did you mean 'photo\.jpg'\?"):
        open_image(tmp_path / "phot.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="is an address, not a file"):
        open_image("https://example.org/cat.jpg")
    with pytest.raises(ImageError, match=r"a\?b cannot be read"):
        open_image("a\0b")
    with pytest.raises(ImageError, match="cannot be a int"):
        open_image(3)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"^picture 2 \(bytes\) is empty"):
        open_image(b"", name="picture 2 (bytes)")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_without_a_writer_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not an ordinary file"):
        open_image(tmp_path / "pipe.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ImageError, match="change its permissions"):
        open_image(path)


def test_a_name_cannot_forge_a_second_line() -> None:
    with pytest.raises(ImageError) as caught:
        open_image(b"", name="a\nerror: all is well\x1b[31m" + "b" * 500)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300


def test_the_callers_pillow_image_is_not_changed() -> None:
    image = Image.new("RGBA", (4, 4), (1, 2, 3, 0))
    image.info["note"] = "kept"
    open_image(image)
    assert (image.mode, image.info, image.getpixel((0, 0))) == (
        "RGBA",
        {"note": "kept"},
        (1, 2, 3, 0),
    )


def test_a_progressive_jpeg_of_endless_scans_and_a_png_of_packed_texts_are_refused() -> None:
    data = encoded(colours(), "JPEG")
    start = data.index(b"\xff\xda")
    scan = data[start:-2]
    with pytest.raises(ImageError, match="has 500 scans, the limit is 100; save it as a plain"):
        open_image(data[:start] + scan * 500 + data[-2:])
    texts = [(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1000))] * 20
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    with pytest.raises(ImageError, match="holds 20 compressed texts, the limit is 16"):
        open_image(png(header, b"\0" * 6, *texts))


def test_a_video_behind_a_jpeg_does_not_count_as_scans() -> None:
    assert open_image(encoded(colours(), "JPEG") + b"\xff\xda\0\x08" * 1000).size == (24, 16)
