"""What the first bytes of a file say, read before any decoder sees them.

Decoders allocate canvases and inflate metadata when they open a file, so sizes, frame counts and
compressed texts are checked here first. Every walk is linear and bounded: no length that a file
declares is trusted, and nothing is decompressed.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_MAX_STEPS = 1_000_000  # chunks or sub-blocks looked at; a 250 MB GIF has as many
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # not stuffing, not a restart
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1")
_JPEG_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_JPEG_SIZE_MARKERS = (
    *range(0xC0, 0xC4),
    *range(0xC5, 0xC8),
    *range(0xC9, 0xCC),
    *range(0xCD, 0xD0),
)


@dataclass(frozen=True)
class PictureHeader:
    """What a file declares about itself; `size` is None where only the decoder can tell."""

    kind: str  # JPEG, PNG, WebP, GIF, BMP, TIFF, HEIF
    size: tuple[int, int] | None = None
    num_frames: int = 1
    num_scans: int = 1  # of a progressive JPEG; each costs a pass over the whole picture
    num_packed_texts: int = 0  # zTXt and iTXt of a PNG; each may inflate to a megabyte
    bits: int = 8  # per channel, PNG only


def read_header(data: bytes) -> PictureHeader | None:
    """Recognise a picture by its bytes, never by its name; None if it is none that we open."""
    if data.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _read_gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_webp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return PictureHeader("TIFF")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[:64]:
        return PictureHeader("HEIF")
    if data[:2] == b"BM" and _is_bmp(data):
        return PictureHeader("BMP")
    return None


def describe(data: bytes) -> str:
    """Say in a few words what a file is that is not a picture we open."""
    head = data[:4096]
    for start, words in _KNOWN:
        if head.startswith(start):
            return words
    if head[4:8] == b"ftyp":
        return "an AVIF picture" if b"avif" in head[8:64] else "a video"
    text = _as_text(head)
    if text is None:
        return "not a picture in a format known here"
    text = text.lstrip("\ufeff \t\r\n").lower()
    if text.startswith("<svg") or (text.startswith("<?xml") and "<svg" in text):
        return "an SVG drawing"
    if text.startswith(("<!doctype html", "<html")):
        return "a web page"
    return "text"


_KNOWN = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"OggS", "a video or a sound"),
    (b"RIFF", "a video or a sound"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"%!PS", "a PostScript document"),
    (b"\0\0\x01\0", "an icon"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
)


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="replace")
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if controls or not head:
        return None
    try:
        return head[:-4].decode("utf-8") if len(head) == 4096 else head.decode("utf-8")
    except UnicodeDecodeError as error:
        return head[: error.start].decode("utf-8") if error.start > len(head) - 8 else None


def _is_bmp(data: bytes) -> bool:
    if len(data) < 18:
        return True  # the decoder will call it truncated
    return struct.unpack_from("<I", data, 14)[0] in (12, 16, 40, 52, 56, 64, 108, 124)


def _read_png(data: bytes) -> PictureHeader:
    size, bits, frames, packed = None, 8, 1, 0
    offset = 8
    for _ in range(_MAX_STEPS):
        if offset + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, offset)
        body = offset + 8
        if name == b"IHDR" and len(data) >= body + 9:
            width, height, bits = struct.unpack_from(">IIB", data, body)
            size = (width, height)
        elif name == b"acTL" and len(data) >= body + 4:
            frames = struct.unpack_from(">I", data, body)[0]
        elif name in (b"zTXt", b"iTXt"):
            packed += 1
        elif name == b"IEND":
            break
        offset = body + length + 4
    return PictureHeader("PNG", size, num_frames=frames, num_packed_texts=packed, bits=bits)


def _skip_sub_blocks(data: bytes, offset: int, budget: int) -> tuple[int, int]:
    """Return the offset behind a chain of GIF sub-blocks and the steps that are left."""
    while budget > 0 and offset < len(data) and data[offset]:
        offset += 1 + data[offset]
        budget -= 1
    return offset + 1, budget - 1


def _read_gif(data: bytes) -> PictureHeader:
    if len(data) < 13:
        return PictureHeader("GIF")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    offset = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    frames, budget = 0, _MAX_STEPS
    while budget > 0 and offset < len(data):
        mark = data[offset]
        if mark == 0x21:  # extension: label, sub-blocks
            offset, budget = _skip_sub_blocks(data, offset + 2, budget)
        elif mark == 0x2C and offset + 9 < len(data):  # picture: ten bytes, palette, code size
            frames += 1
            local = data[offset + 9]
            offset += 11 + (3 << ((local & 7) + 1) if local & 0x80 else 0)
            offset, budget = _skip_sub_blocks(data, offset, budget)
        elif mark == 0x3B:
            break
        else:
            offset, budget = offset + 1, budget - 1
    return PictureHeader("GIF", (width, height), num_frames=frames)


def _read_webp(data: bytes) -> PictureHeader:
    size, frames = None, 0
    offset = 12
    for _ in range(_MAX_STEPS):
        if offset + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, offset)
        size = size or _webp_size(name, data[offset + 8 : offset + 18])
        frames += name == b"ANMF"
        offset += 8 + length + (length & 1)
    return PictureHeader("WebP", size, num_frames=max(frames, 1))


def _webp_size(name: bytes, body: bytes) -> tuple[int, int] | None:
    if len(body) < 10:
        return None
    if name == b"VP8X":
        edges = int.from_bytes(body[4:7], "little"), int.from_bytes(body[7:10], "little")
        return edges[0] + 1, edges[1] + 1
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L":
        packed = struct.unpack_from("<I", body, 1)[0]
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    return None


def _read_jpeg(data: bytes) -> PictureHeader:
    """Walk the segments up to the end mark; what follows it (a phone's video) is not looked at."""
    size, scans, offset = None, 0, 2
    for _ in range(_MAX_STEPS):
        found = _JPEG_MARKER.search(data, offset)
        if found is None or data[found.end() - 1] == 0xD9:
            break
        offset = found.end()
        marker = data[offset - 1]
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if offset + 7 > len(data):
            break
        if marker in _JPEG_SIZE_MARKERS and size is None:
            height, width = struct.unpack_from(">HH", data, offset + 3)
            size = (width, height)
        scans += marker == 0xDA
        offset += struct.unpack_from(">H", data, offset)[0]
    return PictureHeader("JPEG", size, num_scans=scans)
