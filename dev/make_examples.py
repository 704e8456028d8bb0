# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow==13.0.0", "matplotlib==3.11.2", "numpy==2.4.6", "resvg-py==0.5.0", "pip"]
# ///
"""Make the ten pictures of `examples/`, their list and the table in their README.

    python dev/make_examples.py [--only NAME ...] [--cache DIR] [--fonts DIR] [--to DIR]

The packages above are needed beside Tessera itself, npm and a Debian 12 with the fonts of
fonts-dejavu-core, fonts-ebgaramond, fonts-inter and fonts-noto-cjk. With these versions the same
bytes come out again. Three pictures come from packages of public registries (pinned by version and
hash); seven are drawn here, after nothing but numbers and text. The default model's answers in the
README, which stand between `<!-- answers -->` and `<!-- /answers -->`, are left alone.
"""

import argparse
import io
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from example_pictures import packaged, papers, scenes, screens
from example_pictures.canvas import Fonts
from PIL import Image

from tessera.data.sources.splits import is_held_out
from tessera.data.sources.titles import concept_key

ROOT = Path(__file__).resolve().parent.parent
FONT_LICENCE = "MIT (this repository); fonts: "


@dataclass(frozen=True, kw_only=True)
class Example:
    """One picture as `examples.json` lists it; `expected` is what a good answer has to say."""

    file: str
    kind: str
    what: str
    question: str
    expected: str
    licence: str
    origin: str
    rendered: bool
    held_out: str | None = None  # title of the concept that training must not know


EXAMPLES = (
    Example(
        file="illustration.png",
        kind="illustration",
        what="a tractor, drawn",
        question="What is in this picture?",
        expected="a tractor",
        licence="Apache-2.0",
        origin="Noto Emoji by Google, from npm @iconify-json/noto 1.2.9 (`tractor`), on white."
        " Training sees no tractor by any hand: the concept is held out.",
        rendered=False,
        held_out="tractor",
    ),
    Example(
        file="flag.png",
        kind="flag",
        what="the flag of Lebanon",
        question="Which country's flag is this?",
        expected="Lebanon",
        licence="public domain",
        origin="Open Clip Art, by Tobias Jakobs, from Debian openclipart-svg 1:0.18+dfsg-19"
        f" (`{packaged.FLAG}`), with a grey margin. Training sees no flag of Lebanon by any"
        " hand: the concept is held out.",
        rendered=False,
        held_out="flag of Lebanon",
    ),
    Example(
        file="photograph.png",
        kind="photograph",
        what="Chelsea, a tabby cat",
        question="What animal is this?",
        expected="a cat",
        licence="CC0-1.0",
        origin="Photograph by Stéfan van der Walt, from PyPI scikit-image 0.26.0"
        f" (`{packaged.PHOTOGRAPH.member}`), unchanged.",
        rendered=False,
    ),
    Example(
        file="receipt.jpg",
        kind="receipt",
        what="a till receipt on a table",
        question="What is the total on this receipt?",
        expected="19.13 EUR",
        licence=FONT_LICENCE + "DejaVu (Bitstream Vera licence)",
        origin="Drawn by `dev/make_examples.py`; the shop is invented.",
        rendered=True,
    ),
    Example(
        file="chart.png",
        kind="bar chart",
        what="rain in Seattle in 2015, month by month",
        question="Which month had the most rain?",
        expected="December (284 mm)",
        licence="MIT (this repository); data: public domain (NOAA); fonts: DejaVu (Bitstream Vera"
        " licence)",
        origin="Drawn with Matplotlib from the daily NOAA figures in PyPI vega-datasets 0.9.0"
        f" (`{packaged.WEATHER.member}`), summed by month.",
        rendered=True,
    ),
    Example(
        file="page.png",
        kind="page of text",
        what="a page of Alice's Adventures in Wonderland",
        question="What is the title of this chapter?",
        expected="Down the Rabbit-Hole",
        licence=FONT_LICENCE + "EB Garamond (OFL-1.1); text: public domain",
        origin="Set by `dev/make_examples.py`; the text is by Lewis Carroll, 1865.",
        rendered=True,
    ),
    Example(
        file="count.jpg",
        kind="scene to count",
        what="seven balloons over a meadow",
        question="How many red balloons are there?",
        expected="4",
        licence="MIT (this repository)",
        origin="Drawn by `dev/make_examples.py`.",
        rendered=True,
    ),
    Example(
        file="panorama.jpg",
        kind="wide panorama",
        what="a lake at evening, six times as wide as high",
        question="What stands on the right shore of the lake?",
        expected="a red and white lighthouse",
        licence="MIT (this repository)",
        origin="Drawn by `dev/make_examples.py`.",
        rendered=True,
    ),
    Example(
        file="screenshot.png",
        kind="tall screenshot",
        what="the settings of a phone, four times as high as wide",
        question="How much storage is used?",
        expected="41.3 of 64 GB",
        licence=FONT_LICENCE + "Inter (OFL-1.1)",
        origin="Drawn by `dev/make_examples.py`; no real phone looks like this.",
        rendered=True,
    ),
    Example(
        file="sign.jpg",
        kind="Chinese sign",
        what="an exit sign in an underground station",
        question="这个标志上写着什么？",
        expected="出口 EXIT B，人民公园 People’s Park，市图书馆 City Library",
        licence=FONT_LICENCE + "Noto Sans CJK and Inter (OFL-1.1)",
        origin="Drawn by `dev/make_examples.py`; the station is invented.",
        rendered=True,
    ),
)


def main() -> None:
    options = _options()
    _check_held_out()
    options.to.mkdir(parents=True, exist_ok=True)
    painters = _painters(Fonts(options.fonts), options.cache)
    for example in EXAMPLES:
        if not options.only or example.kind in options.only or example.file in options.only:
            content = painters[example.file]()
            (options.to / example.file).write_bytes(content)
            print(f"{example.file:18} {len(content) / 1000:7.1f} kB")
    listed = json.dumps([asdict(e) for e in EXAMPLES], indent=1, ensure_ascii=False)
    (options.to / "examples.json").write_text(listed + "\n", encoding="utf-8")
    readme = options.to / "README.md"
    if readme.exists():
        readme.write_text(_with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the pictures of examples/.")
    parser.add_argument("--only", nargs="*", default=[], help="files or kinds to make again")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "examples")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    parser.add_argument("--to", type=Path, default=ROOT / "examples")
    return parser.parse_args()


def _check_held_out() -> None:
    for example in EXAMPLES:
        if example.held_out is not None and not is_held_out(concept_key(example.held_out)):
            raise SystemExit(f"{example.file}: training may see '{example.held_out}'; take another")


def _painters(fonts: Fonts, cache: Path) -> dict[str, Callable[[], bytes]]:
    """Tell how the bytes of each file are made."""
    return {
        "illustration.png": lambda: _png(packaged.illustration(cache), colours=256),
        "flag.png": lambda: _png(packaged.flag(cache)),
        "photograph.png": lambda: packaged.from_wheel(packaged.PHOTOGRAPH, cache),
        "receipt.jpg": lambda: _jpeg(papers.receipt(fonts)),
        "chart.png": lambda: _png(
            screens.chart(fonts, packaged.from_wheel(packaged.WEATHER, cache))
        ),
        "page.png": lambda: _png(papers.page(fonts), colours=64),
        "count.jpg": lambda: _jpeg(scenes.balloons()),
        "panorama.jpg": lambda: _jpeg(scenes.panorama()),
        "screenshot.png": lambda: _png(screens.settings(fonts)),
        "sign.jpg": lambda: _jpeg(scenes.sign(fonts)),
    }


def _png(image: Image.Image, *, colours: int | None = None) -> bytes:
    stream = io.BytesIO()
    if colours is not None:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=90, optimize=True)
    return stream.getvalue()


def _with_table(readme: str) -> str:
    """Put the list between the markers of the table."""
    lines = [
        "| picture | what | question to ask | a good answer says | origin | licence | rendered |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in EXAMPLES:
        picture = f'<a href="{e.file}"><img src="{e.file}" width="150" alt="{e.kind}"></a>'
        cells = (
            f"{picture}<br>`{e.file}`", f"**{e.kind}**: {e.what}", e.question, e.expected,
            e.origin, e.licence, "rendered" if e.rendered else "no",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    block = "<!-- pictures -->\n" + "\n".join(lines) + "\n<!-- /pictures -->"
    pattern = r"<!-- pictures -->.*?<!-- /pictures -->"
    return re.sub(pattern, lambda _: block, readme, count=1, flags=re.S)


if __name__ == "__main__":
    main()
