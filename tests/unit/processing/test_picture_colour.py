import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tessera.processing.image import open_image
from tests.unit.processing.pictures import encoded, png


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
