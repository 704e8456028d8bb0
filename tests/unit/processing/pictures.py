"""Small pictures that several tests make."""

import io
import struct
import zlib

from PIL import Image


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
