"""Small pictures of every kind we open, and 20,000 and more ways to damage them.

`mutate(index)` is a pure function: with the same encoders a number names the same attack, so a
failure is repeated by its number, and any range of them holds every kind.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageCms, ImageDraw

Seed = tuple[str, bytes]
_EXTREMES = (
    0,
    1,
    2,
    255,
    256,
    4096,
    16_383,
    32_767,
    50_000,
    65_535,
    2**24 - 1,
    2**31 - 1,
    2**32 - 1,
)


def _scene(size: tuple[int, int] = (20, 14)) -> Image.Image:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    pencil = ImageDraw.Draw(image)
    pencil.ellipse((2, 2, size[0] - 4, size[1] - 3), fill=(200, 30, 60))
    pencil.line((0, 0, *size), fill=(0, 90, 200))
    return image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_png(
    width: int, height: int, bits: int, colour: int, raw: bytes, *extra: bytes, adam7: bool = False
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, adam7)
    body = chunk(b"IHDR", header) + b"".join(extra)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def _interlaced() -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    raw = b""
    for x, y, step_x, step_y in (*passes, (0, 1, 1, 2)):
        columns, rows = len(range(x, 16, step_x)), len(range(y, 12, step_y))
        raw += (b"\0" + bytes(range(0, columns * 10, 10))) * rows
    return make_png(16, 12, 8, 0, raw, adam7=True)


def _run_length_bmp() -> bytes:
    body = b"\x08\x01\0\0" * 7 + b"\x03\x02\0\x05\x01\x02\x01\x02\x01\0\0\x01"
    palette = bytes(range(64)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(body), 0, 0, 64, 64)
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + palette + body


def _jpegs(scene: Image.Image, profile: bytes) -> list[Seed]:
    found = [
        ("jpeg", encode(scene, "JPEG")),
        ("jpeg progressive", encode(scene, "JPEG", progressive=True)),
        ("jpeg grey", encode(scene.convert("L"), "JPEG")),
        ("jpeg cmyk", encode(scene.convert("CMYK"), "JPEG")),
        ("jpeg icc", encode(scene, "JPEG", icc_profile=profile)),
        ("jpeg 444", encode(scene, "JPEG", subsampling=0, quality=98)),
    ]
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        found.append((f"jpeg exif {orientation}", encode(scene, "JPEG", exif=exif)))
    return found


def _pngs(scene: Image.Image, profile: bytes) -> list[Seed]:
    frames = [scene, scene.rotate(90), scene.rotate(180)]
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello " * 50))
    return [
        ("png", encode(scene, "PNG")),
        ("png palette", encode(scene.quantize(16), "PNG")),
        ("png palette alpha", encode(scene.quantize(16), "PNG", transparency=b"\0\x80\xff")),
        ("png rgba", encode(scene.convert("RGBA"), "PNG")),
        ("png grey alpha", encode(scene.convert("LA"), "PNG")),
        ("png bilevel", encode(scene.convert("1"), "PNG")),
        ("png icc", encode(scene, "PNG", icc_profile=profile)),
        ("png key", encode(scene, "PNG", transparency=(200, 30, 60))),
        ("png 16 bit grey", make_png(9, 4, 16, 0, (b"\0" + bytes(range(18))) * 4)),
        ("png 16 bit rgb", make_png(5, 4, 16, 2, (b"\1" + bytes(range(30))) * 4)),
        ("png 16 bit rgba", make_png(3, 4, 16, 6, (b"\2" + bytes(range(24))) * 4)),
        ("png 2 bit", make_png(9, 4, 2, 0, (b"\0\x1b\x1b\x80") * 4, chunk(b"tRNS", b"\0\1"))),
        ("png interlaced", _interlaced()),
        ("png text", make_png(4, 4, 8, 0, b"\0abcd" * 4, text)),
        ("png animated", encode(scene, "PNG", save_all=True, append_images=frames)),
    ]


def _others(scene: Image.Image, profile: bytes) -> list[Seed]:
    frames = [scene.rotate(30 * step) for step in range(1, 5)]
    grey16 = Image.frombytes("I;16", (6, 6), bytes(range(72)))
    found = [
        ("webp", encode(scene, "WEBP")),
        ("webp lossless", encode(scene, "WEBP", lossless=True)),
        ("webp alpha", encode(scene.convert("RGBA"), "WEBP")),
        ("webp animated", encode(scene, "WEBP", save_all=True, append_images=frames)),
        ("webp icc", encode(scene, "WEBP", icc_profile=profile)),
        ("gif", encode(scene.quantize(32), "GIF")),
        ("gif plain order", encode(scene.quantize(32), "GIF", interlace=0)),
        ("gif transparent", encode(scene.quantize(8), "GIF", transparency=2)),
        ("gif animated", encode(scene, "GIF", save_all=True, append_images=frames)),
        ("bmp", encode(scene, "BMP")),
        ("bmp palette", encode(scene.quantize(16), "BMP")),
        ("bmp bilevel", encode(scene.convert("1"), "BMP")),
        ("bmp alpha", encode(scene.convert("RGBA"), "BMP")),
        ("bmp run length", _run_length_bmp()),
        ("tiff", encode(scene, "TIFF", icc_profile=profile)),
        ("tiff 16 bit", encode(grey16, "TIFF")),
        ("tiff float", encode(scene.convert("F"), "TIFF")),
        ("tiff int", encode(scene.convert("I"), "TIFF")),
        ("tiff cmyk", encode(scene.convert("CMYK"), "TIFF")),
        ("tiff pages", encode(scene, "TIFF", save_all=True, append_images=frames)),
    ]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"):
        picture = scene.convert("1") if compression == "group4" else scene
        found.append((f"tiff {compression}", encode(picture, "TIFF", compression=compression)))
    return found


def _heifs(scene: Image.Image) -> list[Seed]:
    try:
        import pillow_heif
    except ImportError:
        return []
    found = []
    for mode in ("RGB", "RGBA"):
        file = io.BytesIO()
        pillow_heif.from_pillow(scene.resize((64, 64)).convert(mode)).save(file, quality=50)
        found.append((f"heif {mode}", file.getvalue()))
    return found


@lru_cache(maxsize=1)
def seeds() -> tuple[Seed, ...]:
    """All undamaged pictures by name."""
    scene = _scene()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return (
        *_jpegs(scene, profile),
        *_pngs(scene, profile),
        *_others(scene, profile),
        *_heifs(scene),
    )


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: len(data) * chance.randrange(100) // 100]


def _flip_bits(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    return bytes(broken)


def _flip_header(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 2, 4))):
        broken[chance.randrange(min(len(broken), 64))] = chance.choice((0, 1, 127, 128, 254, 255))
    return bytes(broken)


def _lie_about_size(data: bytes, chance: random.Random) -> bytes:
    """Overwrite what is, or might be, a dimension, a length, a count or an offset."""
    offset = _size_offset(data, chance)
    width = chance.choice((2, 4))
    value = chance.choice(_EXTREMES) % (1 << 8 * width)
    order = "big" if data[:2] in (b"\x89P", b"\xff\xd8") else "little"
    broken = data[:offset] + value.to_bytes(width, order) + data[offset + width :]
    if data[:4] == b"\x89PNG" and 16 <= offset < 24:
        broken = broken[:29] + struct.pack(">I", zlib.crc32(broken[12:29])) + broken[33:]
    return broken


def _size_offset(data: bytes, chance: random.Random) -> int:
    if data[:4] == b"\x89PNG":
        return chance.choice((16, 20))
    if data[:3] == b"GIF":
        return chance.choice((6, 8))
    if data[:2] == b"BM":
        return chance.choice((10, 18, 22, 28))
    if data[:2] == b"\xff\xd8":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return frame + chance.choice((5, 7)) if frame > 0 else 2
    if data[:4] == b"RIFF":
        return chance.choice((4, 16, 24, 26))
    return chance.randrange(len(data) - 4)


def _swap_chunks(data: bytes, chance: random.Random) -> bytes:
    first, second, third = sorted(chance.sample(range(8, len(data)), 3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _repeat_chunk(data: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.sample(range(len(data)), 2))
    return data[:second] + data[first:second] * chance.randrange(1, 4) + data[second:]


def _remove_chunk(data: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.sample(range(8, len(data)), 2))
    return data[:first] + data[second:]


def _add_trailing(data: bytes, chance: random.Random) -> bytes:
    tail = chance.choice((b"\0" * 100, b"PK\x03\x04<script>", data, chance.randbytes(200)))
    return data + tail


def _splice(data: bytes, chance: random.Random) -> bytes:
    """Put the start of one format before the body of another."""
    other = chance.choice(seeds())[1]
    return other[: chance.randrange(4, 64)] + data[chance.randrange(len(data)) :]


def _noise(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.choice((4, 8, 12, 30))] + chance.randbytes(chance.randrange(400))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _truncate, _flip_bits, _flip_header, _lie_about_size, _swap_chunks, _repeat_chunk,
    _remove_chunk, _add_trailing, _splice, _noise,
)  # fmt: skip


def mutate(index: int) -> tuple[str, bytes]:
    """Return attack number `index`: which seed and mutation it is, and its bytes."""
    chance = random.Random(index)
    pictures = seeds()
    name, data = pictures[index % len(pictures)]
    kind = index // len(pictures)
    if kind < 100:  # first of all every picture cut at each percent
        return f"{index}: {name}, cut at {kind}%", data[: len(data) * kind // 100]
    mutation = MUTATIONS[kind % len(MUTATIONS)]
    broken = mutation(data, chance)
    if chance.random() < 0.15:
        again = chance.choice(MUTATIONS)
        broken = again(broken, chance) if len(broken) > 80 else broken
    return f"{index}: {name}, {mutation.__name__.strip('_')}", broken
