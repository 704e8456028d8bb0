"""Any decoded picture becomes plain RGB as a person would see it.

Turned upright (EXIF), transparency over white, 16-bit and float scaled instead of clipped, CMYK
and foreign colour spaces taken to sRGB through the embedded profile where one fits. A damaged
profile or damaged EXIF never costs the picture: it is shown without.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageFile

# Everything that Pillow and the libraries below it raise on hostile bytes.
FOREIGN_FAILURES = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError,
    MemoryError, NameError, OSError, RuntimeError, SyntaxError, TypeError, ValueError, Warning,
    struct.error, zlib.error, Image.DecompressionBombError, ImageCms.PyCMSError,
)  # fmt: skip

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_PROFILE_BYTES = 4 * 2**20  # press profiles are about 2 MB
_BLOCK_PIXELS = 2**20


def to_upright_rgb(image: Image.Image, *, bits: int = 8) -> Image.Image:
    """Convert a loaded picture of any mode; `bits` per channel as the file declared them.

    The result carries no metadata, so that opening it once more does not turn it once more.
    """
    turn = _TURNS.get(_orientation(image))
    picture = _to_rgb(image, bits)
    if turn is not None:
        picture = picture.transpose(turn)
    elif picture is image and isinstance(image, ImageFile.ImageFile):
        picture = image.copy()
    if picture is not image:
        picture.info = {}
    return picture


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except FOREIGN_FAILURES:
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, bits: int) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return _over_white(_with_alpha(image, bits), image.info.get("icc_profile"))
    if image.mode == "P":
        return _to_srgb(image.convert("RGB"), image.info.get("icc_profile"))
    return _to_srgb(image, image.info.get("icc_profile"))


def _with_alpha(image: Image.Image, bits: int) -> Image.Image:
    if image.mode == "RGBa":
        return image.convert("RGBA")
    if image.mode == "La":
        return image.convert("LA").convert("RGBA")
    key = image.info.get("transparency")
    if image.mode not in ("L", "RGB") or key is None:
        return image.convert("RGBA")
    # Pillow scales samples of 2, 4 and 16 bits to 8 but leaves the transparent colour unscaled.
    keyed = image.copy()
    if image.mode == "L" and isinstance(key, int):
        keyed.info["transparency"] = key * 255 // (2**bits - 1) if bits < 8 else key & 255
    elif image.mode == "RGB" and (bits == 16 or max(key) > 255):
        keyed.info["transparency"] = tuple(value >> 8 for value in key)
    return keyed.convert("RGBA")


def _over_white(picture: Image.Image, profile: bytes | None) -> Image.Image:
    alpha = picture.getchannel("A")
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(_to_srgb(picture.convert("RGB"), profile), mask=alpha)
    return white


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 12, 16, 32 bit and float greys to 8 bits; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    low, high = _range(image, values)
    if _is_white_zero(image):
        low, high = high, low
    scale = 255.0 / (high - low) if high != low else 0.0
    grey = np.empty(values.shape, dtype=np.uint8)
    key = image.info.get("transparency")
    rows = max(1, _BLOCK_PIXELS // max(1, values.shape[1]))
    for start in range(0, values.shape[0], rows):
        block = values[start : start + rows]
        scaled = np.nan_to_num((block.astype(np.float64) - low) * scale, nan=0.0)
        grey[start : start + rows] = np.clip(np.rint(scaled), 0, 255)
        if isinstance(key, int):
            grey[start : start + rows][block == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _range(image: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """Return what becomes black and what becomes white: the smallest usual scale that holds all."""
    if image.mode.startswith("I;16"):
        return 0.0, 4095.0 if _tag(image, 258) == 12 else 65535.0
    finite = values if image.mode == "I" else values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    for top in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= top:
            return 0.0, top
    return low, high


def _tag(image: Image.Image, number: int) -> int | None:
    """Return a TIFF tag's first value; None for another format."""
    value = getattr(image, "tag_v2", {}).get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


def _is_white_zero(image: Image.Image) -> bool:
    return _tag(image, 262) == 0  # Pillow inverts such greys up to 8 bits only


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return _required(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if isinstance(profile, bytes) and 128 < len(profile) <= _MAX_PROFILE_BYTES:
        try:
            converted = _through_profile(image, profile)
        except FOREIGN_FAILURES:
            converted = None
        if converted is not None:
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Return the sRGB picture, or None if the profile is sRGB itself or of other channels."""
    space = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(profile[16:20])
    if space != image.mode:
        return None
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    target = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, source, target, outputMode="RGB")


def _required(image: Image.Image | None) -> Image.Image:
    if image is None:
        raise ValueError("the colour conversion gave no picture")
    return image
