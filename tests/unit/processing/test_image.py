import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from tessera.errors import ImageError
from tessera.processing.image import ImageLimits, open_image
from tessera.processing.picture_header import read_header


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colours(size: tuple[int, int] = (24, 16)) -> Image.Image:
    """A picture of four flat quarters: red, green / blue, grey."""
    image = Image.new("RGB", size, (90, 90, 90))
    width, height = size[0] // 2, size[1] // 2
    image.paste((250, 10, 10), (0, 0, width, height))
    image.paste((10, 240, 10), (width, 0, size[0], height))
    image.paste((10, 10, 230), (0, height, width, size[1]))
    return image


def png(header: bytes, body: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


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


def transparent_pictures() -> dict[str, bytes]:
    rgba = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    rgba.paste((0, 0, 0, 0), (0, 0, 4, 8))
    la = rgba.convert("LA")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    grey = Image.new("L", (8, 8), 100)
    grey.paste(7, (0, 0, 4, 8))
    rgb = Image.new("RGB", (8, 8), (200, 0, 0))
    rgb.paste((1, 2, 3), (0, 0, 4, 8))
    bilevel = Image.new("1", (8, 8), 1)
    bilevel.paste(0, (0, 0, 4, 8))
    return {
        "rgba png": encoded(rgba, "PNG"),
        "rgba webp": encoded(rgba, "WEBP", lossless=True),
        "rgba tiff": encoded(rgba, "TIFF"),
        "la png": encoded(la, "PNG"),
        "palette png, one entry": encoded(palette, "PNG", transparency=0),
        "palette png, bytes": encoded(palette, "PNG", transparency=b"\x00\xff"),
        "palette gif": encoded(palette, "GIF", transparency=0),
        "grey key png": encoded(grey, "PNG", transparency=7),
        "rgb key png": encoded(rgb, "PNG", transparency=(1, 2, 3)),
        "bilevel key png": encoded(bilevel, "PNG", transparency=0),
        "2 bit grey key": png(
            struct.pack(">IIBBBBB", 8, 8, 2, 0, 0, 0, 0), b"\0\x55\xff" * 8, (b"tRNS", b"\0\x01")
        ),
        "16 bit grey key": png(
            struct.pack(">IIBBBBB", 8, 8, 16, 0, 0, 0, 0),
            (b"\0" + b"\x12\x34" * 4 + b"\x77\x77" * 4) * 8,
            (b"tRNS", b"\x12\x34"),
        ),
        "16 bit rgb key": png(
            struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0),
            (b"\0" + b"\x12\x34\x56\x78\x9a\xbc" * 4 + b"\x77\x77" * 12) * 8,
            (b"tRNS", b"\x12\x34\x56\x78\x9a\xbc"),
        ),
    }


@pytest.mark.parametrize("name", transparent_pictures())
def test_what_is_transparent_becomes_white_and_the_rest_stays(name: str) -> None:
    image = open_image(transparent_pictures()[name])
    assert image.getpixel((1, 4)) == (255, 255, 255)
    assert image.getpixel((6, 4)) != (255, 255, 255) or name in (
        "bilevel key png",
        "2 bit grey key",
    )


def test_half_transparent_red_over_white_is_pink() -> None:
    image = open_image(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG"))
    assert image.getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "LA", "1", "HSV", "YCbCr", "RGBX", "CMYK"])
def test_pillow_images_of_unusual_modes_are_converted(mode: str) -> None:
    steps = {"La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"], "PA": ["P", "PA"]}.get(mode, [mode])
    image = Image.new("RGB", (4, 4), (255, 255, 255))
    for step in steps:
        image = image.convert(step)
    opened = open_image(image)
    assert opened.mode == "RGB"
    assert min(opened.getpixel((1, 1))) > 250


def ramp(dtype: str, top: float) -> Image.Image:
    return Image.fromarray(np.linspace(0, top, 256).reshape(16, 16).astype(dtype))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (ramp("uint16", 65535), "PNG"),
        (ramp("uint16", 65535), "TIFF"),
        (ramp("int32", 65535), "TIFF"),
        (ramp("int32", 2**30), "TIFF"),
        (ramp("float32", 1), "TIFF"),
        (ramp("float32", 255), "TIFF"),
        (ramp("float32", 1e6), "TIFF"),
    ],
)
def test_deep_greys_are_scaled_not_clipped(image: Image.Image, kind: str) -> None:
    values = np.asarray(open_image(encoded(image, kind)))[..., 0].reshape(-1).astype(int)
    assert np.abs(values - np.arange(256)).max() <= 1


def test_a_float_picture_with_holes_is_opened() -> None:
    values = np.full((4, 4), 0.5, dtype=np.float32)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    image = open_image(encoded(Image.fromarray(values), "TIFF"))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 255, 0, 128]
    values[:] = np.nan
    assert open_image(Image.fromarray(values)).getpixel((0, 0)) == (0, 0, 0)


def tiff(bits: int, photometric: int, body: bytes, width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8)]
    tags += [(277, 1), (278, height), (279, len(body))]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0" * 4


def test_12_bit_and_white_is_zero_tiffs_keep_their_brightness() -> None:
    white = open_image(tiff(12, 1, b"\xff" * 24, 8, 2))
    assert white.getpixel((3, 1)) == (255, 255, 255)
    inverted = open_image(tiff(16, 0, b"\0" * 64, 8, 4))
    assert inverted.getpixel((3, 3)) == (255, 255, 255)


def test_16_bit_rgb_is_scaled() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    image = open_image(png(header, b"\0" + b"\xff\xff\x80\x00\x00\xff" + b"\0" * 6))
    assert image.getpixel((0, 0)) == (255, 128, 0)


def test_cmyk_and_adobe_inverted_jpegs_keep_their_colours() -> None:
    for colour in ((255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)):
        cmyk = Image.new("RGB", (16, 16), colour).convert("CMYK")
        for kind in ("JPEG", "TIFF"):
            shown = open_image(encoded(cmyk, kind)).getpixel((8, 8))
            assert max(abs(a - b) for a, b in zip(shown, colour, strict=True)) < 12, (kind, colour)


def swapped_profile() -> bytes:
    """An RGB profile whose red and blue primaries are exchanged: colours visibly move."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {}
    for index in range(struct.unpack_from(">I", data, 128)[0]):
        position = 132 + 12 * index
        entries[bytes(data[position : position + 4])] = position
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_colour_profile_is_followed_to_srgb(kind: str) -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, icc_profile=swapped_profile(), **options)
    shown = open_image(data).getpixel((8, 8))
    assert shown[2] > 200 > 60 > shown[0], shown
    assert open_image(data, mode="reference").getpixel((8, 8))[0] > 250


def test_a_damaged_or_foreign_profile_costs_only_itself() -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    grey = bytearray(swapped_profile())
    grey[16:20] = b"GRAY"
    for profile in (b"x" * 500, swapped_profile()[:300], bytes(grey), b"\0" * 3000, b"ICC"):
        shown = open_image(encoded(red, "PNG", icc_profile=profile)).getpixel((8, 8))
        assert shown == (255, 0, 0)


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
