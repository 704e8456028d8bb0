"""The chart and the tall screenshot."""

import csv
import io
from collections import defaultdict

import matplotlib
from matplotlib import font_manager
from PIL import Image, ImageDraw

from example_pictures.canvas import Colour, Fonts

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
YEAR = "2015"

# Title, rows; a row is icon colour, label, and a value or whether a switch is on.
Row = tuple[Colour, str, str | bool]
GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "Network",
        (
            ((38, 132, 255), "Wi-Fi", "Harbour-5G"),
            ((20, 110, 220), "Bluetooth", False),
            ((52, 168, 83), "Mobile data", True),
            ((255, 149, 0), "Aeroplane mode", False),
        ),
    ),
    (
        "Display",
        (
            ((255, 179, 0), "Brightness", "60%"),
            ((90, 84, 214), "Dark mode", False),
            ((0, 150, 160), "Text size", "Medium"),
            ((130, 90, 60), "Turn off screen after", "2 minutes"),
        ),
    ),
    (
        "Sound",
        (
            ((233, 66, 90), "Ring volume", "75%"),
            ((233, 66, 90), "Vibrate for calls", True),
            ((170, 60, 180), "Do not disturb", "22:00 - 07:00"),
        ),
    ),
    (
        "Device",
        (
            ((52, 199, 89), "Battery", "83%"),
            ((110, 118, 130), "Storage", "41.3 of 64 GB used"),
            ((110, 118, 130), "Memory", "3.2 of 8 GB used"),
            ((38, 132, 255), "Software update", "Up to date"),
        ),
    ),
    (
        "Privacy",
        (
            ((0, 122, 90), "Location", True),
            ((0, 122, 90), "Camera access", "4 apps"),
            ((0, 122, 90), "Microphone access", "2 apps"),
            ((200, 50, 50), "Screen lock", "Fingerprint"),
        ),
    ),
    (
        "General",
        (
            ((80, 90, 200), "Language", "English"),
            ((80, 90, 200), "Date and time", "Automatic"),
            ((80, 90, 200), "About phone", "Version 14.2"),
        ),
    ),
)


def monthly_rain(weather: bytes) -> list[float]:
    """Sum the daily rain (mm) of one year by month."""
    sums: dict[str, float] = defaultdict(float)
    for day in csv.DictReader(io.StringIO(weather.decode("utf-8"))):
        year, month, _ = day["date"].split("/")
        if year == YEAR:
            sums[month] += float(day["precipitation"])
    return [round(sums[f"{month:02}"], 1) for month in range(1, 13)]


def chart(fonts: Fonts, weather: bytes) -> Image.Image:
    """Monthly rain as a bar chart."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    font = fonts.get("DejaVuSans.ttf", 12)
    font_manager.fontManager.addfont(font.path)
    with pyplot.rc_context({"font.family": "DejaVu Sans", "font.size": 12}):
        figure, axes = pyplot.subplots(figsize=(10, 6), dpi=100, layout="constrained")
        bars = axes.bar(MONTHS, monthly_rain(weather), color="#2f7fb8", width=0.72)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=11, color="#333333")
        axes.set_title(f"Rain in Seattle, {YEAR}", fontsize=18, loc="left", pad=14)
        axes.set_ylabel("rain (mm)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd")
        axes.set_axisbelow(True)
        figure.get_layout_engine().set(w_pad=0.25, h_pad=0.2)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
        pyplot.close(figure)
    return Image.open(stream).convert("RGB")


def settings(fonts: Fonts) -> Image.Image:
    """A settings page as a phone stitches it together when one scrolls while taking it."""
    width, scale = 600, 3
    height = 250 + sum(74 + 72 * len(rows) for _, rows in GROUPS) + 60
    screen = Image.new("RGB", (width * scale, height * scale), (242, 243, 247))
    pen = _Pen(ImageDraw.Draw(screen), fonts, scale)
    pen.text(28, 18, "9:41", "Inter-SemiBold.otf", 22, (30, 30, 34))
    pen.battery(530, 21, 0.83)
    pen.text(28, 72, "Settings", "Inter-Bold.otf", 44, (20, 20, 24))
    pen.box((28, 146, 572, 202), 28, (228, 230, 236))
    pen.circle(58, 172, 9, (110, 114, 124))
    pen.circle(58, 172, 6, (228, 230, 236))
    pen.line((64, 178, 71, 185), 3, (110, 114, 124))
    pen.text(88, 160, "Search settings", "Inter-Regular.otf", 22, (110, 114, 124))
    y = 226
    for title, rows in GROUPS:
        pen.text(40, y + 18, title, "Inter-SemiBold.otf", 20, (38, 110, 210))
        top = y + 54
        pen.box((28, top, 572, top + 72 * len(rows)), 20, (255, 255, 255))
        for number, row in enumerate(rows):
            pen.row(top + 72 * number, row)
            if number:
                pen.line((100, top + 72 * number, 556, top + 72 * number), 1, (228, 229, 234))
        y = top + 72 * len(rows) + 20
    return screen.resize((width, height), Image.Resampling.LANCZOS)


class _Pen:
    """Draws on a picture that is `scale` times as large as the coordinates given."""

    def __init__(self, draw: ImageDraw.ImageDraw, fonts: Fonts, scale: int) -> None:
        self._draw, self._fonts, self._scale = draw, fonts, scale

    def text(
        self, x: float, y: float, text: str, font: str, size: int, fill: Colour, anchor: str = "la"
    ) -> None:
        face = self._fonts.get(font, size * self._scale)
        self._draw.text(
            (x * self._scale, y * self._scale), text, font=face, fill=fill, anchor=anchor
        )

    def box(self, box: tuple[float, ...], radius: float, fill: Colour) -> None:
        scaled = [side * self._scale for side in box]
        self._draw.rounded_rectangle(scaled, radius * self._scale, fill=fill)

    def circle(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.box((x - radius, y - radius, x + radius, y + radius), radius, fill)

    def line(self, ends: tuple[float, ...], width: float, fill: Colour) -> None:
        scaled = [end * self._scale for end in ends]
        self._draw.line(scaled, fill=fill, width=round(width * self._scale))

    def battery(self, x: float, y: float, level: float) -> None:
        self.box((x, y, x + 38, y + 19), 5, (30, 30, 34))
        self.box((x + 2, y + 2, x + 36, y + 17), 4, (242, 243, 247))
        self.box((x + 4, y + 4, x + 4 + 30 * level, y + 15), 2, (30, 30, 34))
        self.box((x + 39, y + 6, x + 42, y + 13), 1, (30, 30, 34))

    def row(self, top: float, row: Row) -> None:
        colour, label, value = row
        middle = top + 36
        self.box((44, middle - 20, 84, middle + 20), 11, colour)
        self.text(64, middle, label[0], "Inter-Bold.otf", 20, (255, 255, 255), "mm")
        self.text(100, middle, label, "Inter-Medium.otf", 22, (28, 28, 32), "lm")
        if isinstance(value, str):
            self.text(536, middle, value, "Inter-Regular.otf", 20, (120, 123, 132), "rm")
            self.line((546, middle - 6, 552, middle), 2, (176, 178, 186))
            self.line((552, middle, 546, middle + 6), 2, (176, 178, 186))
            return
        self.box(
            (498, middle - 15, 554, middle + 15), 15, (52, 199, 89) if value else (205, 207, 214)
        )
        self.circle(539 if value else 513, middle, 12, (255, 255, 255))
