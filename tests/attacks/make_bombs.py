"""Small files that ask for large memory or long work; `refused` says which may never open."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from PIL import Image

from tests.attacks.make_pictures import chunk, encode, make_png


@lru_cache(maxsize=1)
def _packed_zeros() -> bytes:
    return zlib.compress(bytes(100_000_000), 1)


class Bomb(NamedTuple):
    """One file; those not `refused` may open, but in little memory."""

    name: str
    data: bytes
    refused: bool = True


def _huge_pngs() -> Iterator[Bomb]:
    line = b"\0" * 1000
    for bits, colour in ((1, 0), (2, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (8, 4), (16, 6)):
        palette = chunk(b"PLTE", b"\0\0\0\xff\xff\xff")
        yield Bomb(
            f"png 50k x 50k, {bits} bit, colour {colour}",
            make_png(50_000, 50_000, bits, colour, line, palette),
        )
    yield Bomb("png 1 bit, 1M x 1M", make_png(1_000_000, 1_000_000, 1, 0, line))
    yield Bomb("png interlaced", make_png(50_000, 50_000, 8, 2, line, adam7=True))
    yield Bomb("png 2^31 - 1", make_png(2**31 - 1, 2**31 - 1, 8, 6, line))
    yield Bomb("png one long line", make_png(2**31 - 1, 1, 1, 0, line))
    yield Bomb("png of no width", make_png(0, 5, 8, 0, line))


def _packed_texts() -> Iterator[Bomb]:
    large = _packed_zeros()
    megabyte = zlib.compress(b"a" * 1_000_000)
    for count, refused in ((1, False), (16, False), (17, True), (5000, True)):
        texts = [chunk(b"zTXt", b"k%d\0\0" % i + megabyte) for i in range(count)]
        yield Bomb(f"png {count} zTXt", make_png(2, 2, 8, 0, b"\0ab" * 2, *texts), refused)
    yield Bomb(
        "png zTXt 100 MB", make_png(2, 2, 8, 0, b"\0ab" * 2, chunk(b"zTXt", b"k\0\0" + large))
    )
    international = chunk(b"iTXt", b"k\0\1\0\0\0" + large)
    yield Bomb("png iTXt 100 MB", make_png(2, 2, 8, 0, b"\0ab" * 2, international))
    profile = chunk(b"iCCP", b"p\0\0" + large)
    yield Bomb("png profile 100 MB", make_png(2, 2, 8, 2, b"\0abcdef" * 2, profile))
    nested = chunk(b"iCCP", b"p\0\0" + zlib.compress(zlib.compress(zlib.compress(large))))
    yield Bomb("png nested profile", make_png(2, 2, 8, 2, b"\0abcdef" * 2, nested), refused=False)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
    body += chunk(b"IDAT", large) + chunk(b"IEND", b"")
    yield Bomb("png 2 x 2 with 100 MB of pixels", body, refused=False)


def _animations() -> Iterator[Bomb]:
    gif = encode(Image.new("P", (1, 1)), "GIF")
    start = gif.index(b"\x2c")
    frame = gif[start : gif.rindex(b"\x3b")]
    yield Bomb("gif 10k frames", gif[:start] + frame * 10_000 + b"\x3b")
    yield Bomb("gif 65,535 x 65,535", gif[:6] + b"\xff" * 4 + gif[10:])
    larger = frame[:5] + b"\xff" * 4 + frame[9:]
    yield Bomb("gif frame larger than its screen", gif[:start] + larger + b"\x3b")
    picture = encode(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    anmf = struct.pack("<II", 0, 0)[:6] + b"\0" * 6 + b"\x0a\0\0\0" + picture
    frames = (b"ANMF" + struct.pack("<I", len(anmf)) + anmf) * 10_000
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02" + b"\0" * 9
    body += b"ANIM" + struct.pack("<I", 6) + b"\0" * 6 + frames
    yield Bomb("webp 10k frames", b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)
    for count in (10_000, 2**32 - 1):
        control = chunk(b"acTL", struct.pack(">II", count, 0))
        yield Bomb(f"png {count} frames", make_png(2, 2, 8, 0, b"\0ab" * 2, control))


def _huge_others() -> Iterator[Bomb]:
    webp = encode(Image.new("RGB", (8, 8)), "WEBP", lossless=True)
    at = webp.index(b"VP8L") + 9
    yield Bomb("webp lossless 16k x 16k", webp[:at] + b"\xff\xff\xff\x0f" + webp[at + 4 :])
    webp = encode(Image.new("RGB", (8, 8)), "WEBP")
    at = webp.index(b"\x9d\x01\x2a") + 3
    yield Bomb("webp 16k x 16k", webp[:at] + b"\xff\x3f\xff\x3f" + webp[at + 4 :])
    webp = encode(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP")
    at = webp.index(b"VP8X") + 12
    yield Bomb("webp canvas 16M x 16M", webp[:at] + b"\xff" * 6 + webp[at + 6 :])
    jpeg = encode(Image.new("RGB", (8, 8)), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield Bomb("jpeg 65,500 x 65,500", jpeg[:at] + b"\xff\xdc\xff\xdc" + jpeg[at + 4 :])
    jpeg = encode(Image.new("RGB", (8, 8)), "JPEG", progressive=True)
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    yield Bomb("jpeg 10k scans", jpeg[:-2] + scan * 10_000 + jpeg[-2:])
    bmp = encode(Image.new("RGB", (8, 8)), "BMP")
    yield Bomb("bmp 50k x 50k", bmp[:18] + struct.pack("<ii", 50_000, 50_000) + bmp[26:])
    yield Bomb("bmp upside down", bmp[:18] + struct.pack("<ii", 50_000, -50_000) + bmp[26:])
    runs = b"BM" + struct.pack("<IHHI", 9999, 0, 0, 1078)
    runs += struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 1, 0, 0, 0, 0, 0)
    yield Bomb("bmp run length", runs + b"\0" * 1024 + b"\xff\x01" * 1000)
    heif = _heif()
    if heif:
        at = heif.index(b"ispe") + 8
        yield Bomb(
            "heif 60k x 60k", heif[:at] + struct.pack(">II", 60_000, 60_000) + heif[at + 8 :]
        )


def _heif() -> bytes:
    try:
        import pillow_heif
    except ImportError:
        return b""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(file)
    return file.getvalue()


def make_tiff(tags: dict[int, tuple[int, int, int]], body: bytes = b"\0" * 16) -> bytes:
    """Write a TIFF of one directory; `tags` override those of a plain 2 x 2 grey."""
    entries = {
        256: (4, 1, 2), 257: (4, 1, 2), 258: (4, 1, 8), 259: (4, 1, 1), 262: (4, 1, 1),
        273: (4, 1, 8), 277: (4, 1, 1), 278: (4, 1, 2), 279: (4, 1, 4), **tags,
    }  # fmt: skip
    directory = struct.pack("<H", len(entries))
    for tag, entry in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, *entry)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0" * 4


def _tiffs() -> Iterator[Bomb]:
    most = 2**32 - 1
    yield Bomb("tiff 50k x 50k", make_tiff({256: (4, 1, 50_000), 257: (4, 1, 50_000)}))
    yield Bomb("tiff 2^32 x 2^32", make_tiff({256: (4, 1, most), 257: (4, 1, most)}))
    tiles = {322: (4, 1, 60_000), 323: (4, 1, 60_000), 324: (4, 1, 8), 325: (4, 1, 16)}
    for compression in (1, 5, 7, 8):
        yield Bomb(
            f"tiff with tiles of 60k, compression {compression}",
            make_tiff({**tiles, 259: (4, 1, compression)}),
        )
    yield Bomb("tiff of 65,535 samples", make_tiff({277: (4, 1, 65_535)}))
    yield Bomb("tiff with 4G strips", make_tiff({273: (4, most, 8), 279: (4, most, 8)}))
    yield Bomb("tiff with 4G bits", make_tiff({258: (3, most, 8)}), refused=False)
    yield Bomb("tiff strip of 4 GB", make_tiff({279: (4, 1, most), 259: (4, 1, 5)}))
    flat = _packed_zeros()
    counts = {279: (4, 1, len(flat)), 259: (4, 1, 8), 278: (4, 1, most)}
    yield Bomb("tiff 2 x 2 with 100 MB of pixels", make_tiff(counts, flat), refused=False)
    loop = bytearray(make_tiff({}))
    loop[-4:] = loop[4:8]
    yield Bomb("tiff whose directory follows itself", bytes(loop), refused=False)
    yield Bomb("tiff with a tag of 4G doubles", make_tiff({700: (12, most, 8)}), refused=False)


def _metadata() -> Iterator[Bomb]:
    jpeg = encode(Image.new("RGB", (8, 8)), "JPEG")
    piece = b"ICC_PROFILE\0%c\xff" + b"p" * 65_000
    markers = b"".join(
        b"\xff\xe2" + struct.pack(">H", len(piece) + 1) + piece % i for i in range(1, 256)
    )
    yield Bomb("jpeg profile of 16 MB", jpeg[:2] + markers + jpeg[2:], refused=False)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" + struct.pack("<HHII", 0x8769, 4, 1, 8) * 5000
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    yield Bomb("jpeg exif that refers to itself", jpeg[:2] + marker + jpeg[2:], refused=False)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation=" * 3800
    marker = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    yield Bomb("jpeg xmp of orientations", jpeg[:2] + marker * 50 + jpeg[2:], refused=False)


def bombs() -> list[Bomb]:
    """All of them."""
    kinds = (_huge_pngs, _packed_texts, _animations, _huge_others, _tiffs, _metadata)
    return [bomb for kind in kinds for bomb in kind()]
