"""Open one picture: checked before it is decoded, RGB and upright afterwards.

Only the formats of `FORMATS` are opened, recognised by their bytes. Pixels, bytes and frames are
compared with `ImageLimits` before a decoder runs; Pillow's own guards stay as they are. Whatever
the bytes hold, only `ImageError` comes out, and its text is ours, never a decoder's.
"""

from __future__ import annotations

import difflib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tessera.errors import ImageError
from tessera.processing.picture_colour import FOREIGN_FAILURES, to_upright_rgb
from tessera.processing.picture_header import PictureHeader, describe, read_header

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image
ImageMode = Literal["upright", "reference"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIF")
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_MAX_SCANS = 100  # ordinary progressive files have about ten
_MAX_PACKED_TEXTS = 16
_MAX_TILE_PIXELS = 2**24  # of a TIFF's own tiles; they are allocated whole

# Damaged metadata is not worth a warning to someone who only wants the picture opened.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What a picture may cost; all of it is checked before decoding."""

    max_pixels: int = 128_000_000
    max_side: int = 65_535  # pixels; what a JPEG can have
    max_bytes: int = 128 * 2**20
    max_frames: int = 2_000  # only the first is used


def open_image(
    source: ImageSource,
    *,
    mode: ImageMode = "upright",
    limits: ImageLimits | None = None,
    name: str | None = None,
) -> Image.Image:
    """Return the picture in RGB.

    Args:
        source: a file, its bytes, or a Pillow picture (of which nothing is changed).
        mode: `upright` applies EXIF orientation, puts transparency over white and converts deep
            greys, CMYK and colour profiles; `reference` is a bare `convert("RGB")`, as the
            published code does.
        limits: see `ImageLimits`.
        name: how errors call the picture; the path, or "picture (bytes)".

    Raises:
        ImageError: for whatever cannot or may not be opened.
    """
    if mode not in ("upright", "reference"):
        raise ImageError(f"image mode {mode!r} does not exist; use 'upright' or 'reference'")
    limits = limits or ImageLimits()
    if isinstance(source, Image.Image):
        name = printable(name or "picture (PIL image)")
        return _decode(source, PictureHeader(""), mode=mode, limits=limits, name=name)
    if isinstance(source, bytes | bytearray | memoryview):
        name = printable(name or "picture (bytes)")
        _check_bytes(memoryview(source).nbytes, limits, name)
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        name = printable(name or os.fspath(source))
        data = _read_file(source, limits, name)
    else:
        raise ImageError(
            f"a picture cannot be a {type(source).__name__}; give a path, bytes or a Pillow image"
        )
    header = read_header(data)
    if header is None:
        raise ImageError(
            f"{name} is {describe(data)}, not a picture that can be opened;"
            f" give {_or_list(FORMATS)}"
        )
    _check_header(header, limits, name)
    return _open_bytes(data, header, mode=mode, limits=limits, name=name)


def printable(name: str) -> str:
    """Make a name fit for one line of a message: no control characters, at most 200 long."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return shown if len(shown) <= 200 else shown[:100] + "..." + shown[-97:]


def _or_list(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]


def _check_bytes(count: int, limits: ImageLimits, name: str) -> None:
    if count == 0:
        raise ImageError(f"{name} is empty (0 bytes); save or download it again")
    if count > limits.max_bytes:
        raise ImageError(
            f"{name} has {count / 2**20:,.1f} MiB,"
            f" the limit is {limits.max_bytes / 2**20:,.1f} MiB; save it smaller"
        )


def _read_file(path: str | os.PathLike[str], limits: ImageLimits, name: str) -> bytes:
    """Read a regular file once, so that what was checked is what is decoded."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)  # not blocking: a pipe without a writer must not hang
    except (OSError, ValueError) as error:
        raise ImageError(_unreadable(path, error, name)) from None
    try:
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(
                    f"{name} is not an ordinary file; give a picture file or its bytes"
                )
            _check_bytes(status.st_size, limits, name)
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise ImageError(_unreadable(path, error, name)) from None
    _check_bytes(len(data), limits, name)
    return data


def _unreadable(path: str | os.PathLike[str], error: Exception, name: str) -> str:
    if str(path).startswith(("http://", "https://", "data:")):
        return f"{printable(name)[:60]} is an address, not a file; download it and give the file"
    if isinstance(error, IsADirectoryError) or os.path.isdir(os.fsencode(path).split(b"\0")[0]):
        return f"{name} is a folder; give a picture in it"
    if isinstance(error, PermissionError):
        return f"{name} may not be read by this user; change its permissions"
    if isinstance(error, FileNotFoundError):
        return f"{name} does not exist;{_neighbour(Path(path))} check the path"
    return f"{name} cannot be read from disk; check the path and the disk"


def _neighbour(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in islice(os.scandir(path.parent), 1000))
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" did you mean {printable(close[0])!r}?" if close else ""


def _check_header(header: PictureHeader, limits: ImageLimits, name: str) -> None:
    if header.size is not None:
        _check_size(header.size, limits, name)
    if header.num_frames > limits.max_frames:
        raise ImageError(
            f"{name} has {header.num_frames:,} frames, the limit is {limits.max_frames:,};"
            " save one frame as a picture"
        )
    if header.num_scans > _MAX_SCANS:
        raise ImageError(
            f"{name} has {header.num_scans} scans, the limit is {_MAX_SCANS};"
            " save it as a plain JPEG"
        )
    if header.num_packed_texts > _MAX_PACKED_TEXTS:
        raise ImageError(
            f"{name} holds {header.num_packed_texts} compressed texts, the limit is"
            f" {_MAX_PACKED_TEXTS}; save it without metadata"
        )


def _check_size(size: tuple[int, int], limits: ImageLimits, name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} x {height} pixels; there is nothing to see in it")
    if max(size) > limits.max_side or width * height > limits.max_pixels:
        raise ImageError(
            f"{name} is {width:,} x {height:,} pixels, the limit is {limits.max_pixels:,} pixels"
            f" and {limits.max_side:,} per side; save it smaller"
        )


def _open_bytes(
    data: bytes, header: PictureHeader, *, mode: ImageMode, limits: ImageLimits, name: str
) -> Image.Image:
    opener = _heif_opener(name) if header.kind == "HEIF" else _OPENERS[header.kind]
    try:
        # Not Image.open: it would try its other plugins, and warn where our limits are wider.
        image = opener(io.BytesIO(data))
    except FOREIGN_FAILURES as error:
        raise ImageError(_damaged(error, header.kind, name)) from None
    with image:
        return _decode(image, header, mode=mode, limits=limits, name=name)


def _heif_opener(name: str) -> type[ImageFile.ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            f"{name} is a HEIF picture and pillow-heif is missing; pip install 'tessera-vl[media]'"
        ) from None
    return HeifImageFile


def _decode(
    image: Image.Image, header: PictureHeader, *, mode: ImageMode, limits: ImageLimits, name: str
) -> Image.Image:
    _check_size(image.size, limits, name)
    _check_inner_tiles(image, name)
    try:
        image.load()
        _check_size(image.size, limits, name)  # HEIF may learn its true size while decoding
        if mode == "reference":
            return image.convert("RGB")
        return to_upright_rgb(image, bits=header.bits)
    except FOREIGN_FAILURES as error:
        raise ImageError(_damaged(error, header.kind, name)) from None


def _check_inner_tiles(image: Image.Image, name: str) -> None:
    tags = getattr(image, "tag_v2", None) or {}
    width, height = tags.get(322, 0), tags.get(323, 0)
    if (
        not (isinstance(width, int) and isinstance(height, int))
        or width * height > _MAX_TILE_PIXELS
    ):
        raise ImageError(f"{name} is a TIFF with tiles of an impossible size; save it again as PNG")


def _damaged(error: BaseException, kind: str, name: str) -> str:
    """Word a decoder's failure; its own text may hold addresses and is only looked at."""
    what = f"{kind} picture" if kind else "picture"
    if isinstance(error, MemoryError):
        return f"{name} is a {what} that needs more memory than there is; save it smaller"
    if isinstance(error, OSError) and "truncated" in str(error):
        return f"{name} is a {what} that ends too early; save or download it again"
    if isinstance(error, Image.DecompressionBombError):
        return f"{name} is a {what} that unpacks to an unreasonable size; save it smaller"
    return f"{name} is a damaged {what}; save or download it again, or convert it to PNG"
