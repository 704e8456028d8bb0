"""The scene to count, the panorama and the Chinese sign."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from example_pictures.canvas import Colour, Fonts, drop_shadow, gradient, grain, jittered

RED, BLUE, YELLOW = (214, 38, 44), (36, 92, 200), (245, 190, 30)
# Centre and radius (1024 x 768), colour: seven balloons, four of them red.
BALLOONS = (
    (170, 250, 74, RED),
    (330, 150, 66, BLUE),
    (420, 330, 80, YELLOW),
    (575, 190, 72, RED),
    (700, 350, 78, RED),
    (800, 140, 64, BLUE),
    (905, 290, 70, RED),
)


def balloons() -> Image.Image:
    """Seven balloons over a meadow."""
    scale = 2
    size = (1024 * scale, 768 * scale)
    sky = gradient(size, [(0.0, (84, 160, 226)), (0.75, (205, 231, 248)), (1.0, (225, 240, 250))])
    for x, y, width in ((210, 110, 230), (640, 90, 260), (900, 420, 220), (90, 430, 240)):
        _cloud(sky, x * scale, y * scale, width * scale)
    _hill(sky, base=640 * scale, height=46 * scale, phase=0.4, colour=(116, 178, 84))
    _hill(sky, base=690 * scale, height=34 * scale, phase=2.2, colour=(84, 150, 62))
    draw = ImageDraw.Draw(sky)
    for number, (x, y, radius, _) in enumerate(BALLOONS):
        foot = y + radius * 1.22
        points = [
            ((x + math.sin(t * 5.0 + number) * 7 * t) * scale, (foot + t * 190) * scale)
            for t in np.linspace(0.0, 1.0, 40)
        ]
        draw.line(points, fill=(96, 104, 120), width=2 * scale, joint="curve")
    for x, y, radius, colour in BALLOONS:
        _balloon(sky, x * scale, y * scale, radius * scale, colour)
    return sky.resize((1024, 768), Image.Resampling.LANCZOS)


def _balloon(canvas: Image.Image, x: int, y: int, radius: int, colour: Colour) -> None:
    box = int(radius * 1.5)
    rows, columns = np.mgrid[-box:box, -box:box].astype(np.float32) / radius
    tall = 1.18 - 0.06 * np.clip(rows, -1, 1)  # a little narrower below
    distance = np.sqrt((columns * (1.0 + 0.09 * np.clip(rows, 0, 1.2))) ** 2 + (rows / tall) ** 2)
    alpha = np.clip((1.0 - distance) * radius, 0, 1)
    light = 1.06 - 0.42 * ((columns + 0.35) ** 2 + ((rows + 0.45) / 1.2) ** 2) ** 0.9 / 1.6
    shine = np.exp(-(((columns + 0.36) / 0.16) ** 2 + ((rows + 0.52) / 0.26) ** 2))
    pixels = np.array(colour, dtype=np.float32) * light[..., None] + 175 * shine[..., None]
    sheet = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    foot, knot = y + radius * 1.17, radius * 0.1
    shade = tuple(int(c * 0.72) for c in colour)
    ImageDraw.Draw(canvas).polygon(
        [(x, foot - knot), (x - knot, foot + knot), (x + knot, foot + knot)], fill=shade
    )
    mask = Image.fromarray((alpha * 255).astype(np.uint8))
    canvas.paste(sheet, (x - box, y - box), mask)


def _cloud(canvas: Image.Image, x: int, y: int, width: int) -> None:
    mask = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(mask)
    for shift, lift, share in (
        (-0.32, 0, 0.22),
        (-0.1, -0.09, 0.3),
        (0.14, -0.05, 0.26),
        (0.34, 0.02, 0.18),
    ):
        cx, cy, r = x + shift * width, y + lift * width, share * width / 1.6
        draw.ellipse((cx - r, cy - r * 0.8, cx + r, cy + r * 0.8), fill=225)
    draw.rounded_rectangle(
        (x - width * 0.42, y, x + width * 0.44, y + width * 0.12), width * 0.06, fill=225
    )
    canvas.paste((255, 255, 255), (0, 0), mask.filter(ImageFilter.GaussianBlur(width / 34)))


def _hill(canvas: Image.Image, *, base: int, height: int, phase: float, colour: Colour) -> None:
    width = canvas.width
    edge = [
        (
            x,
            base
            - height
            * (0.6 * math.sin(x / width * 5 + phase) + 0.3 * math.sin(x / width * 11 + phase * 2)),
        )
        for x in range(0, width + 8, 8)
    ]
    polygon = [*edge, (width + 8, canvas.height), (0, canvas.height)]
    ImageDraw.Draw(canvas).polygon(polygon, fill=colour)


def panorama() -> Image.Image:
    """A lake at evening, six times as wide as high: mountains, a village, boats, a lighthouse."""
    scale, width, height, shore = 2, 2400, 400, 262
    size = (width * scale, shore * scale)
    land = gradient(size, [(0.0, (70, 112, 176)), (0.55, (236, 178, 140)), (1.0, (253, 216, 160))])
    glow = Image.new("L", size)
    sun = ImageDraw.Draw(glow)
    for radius, light in ((200, 50), (110, 90), (60, 140)):
        sun.ellipse(_around(1780 * scale, 150 * scale, radius * scale), fill=light)
    land.paste((255, 244, 205), (0, 0), glow.filter(ImageFilter.GaussianBlur(44 * scale)))
    ImageDraw.Draw(land).ellipse(_around(1780 * scale, 150 * scale, 27 * scale), (255, 247, 214))
    ranges = (
        (150, 92, (128, 134, 178), 21, 340),
        (190, 70, (96, 108, 150), 22, 230),
        (222, 44, (66, 88, 112), 23, 150),
    )
    for base, rise, colour, seed, wave in ranges:
        _ridge(land, base * scale, rise * scale, colour, seed, wave * scale, snow=seed == 21)
    draw = ImageDraw.Draw(land)
    draw.polygon(
        [
            (0, 246 * scale),
            (700 * scale, 252 * scale),
            (1250 * scale, shore * scale),
            (0, shore * scale),
        ],
        fill=(52, 74, 62),
    )
    draw.polygon(
        [
            (1950 * scale, shore * scale),
            (2200 * scale, 247 * scale),
            (width * scale, 243 * scale),
            (width * scale, shore * scale),
        ],
        fill=(48, 68, 60),
    )
    _village(draw, scale)
    _lighthouse(draw, 2235 * scale, 249 * scale, scale)
    scene = _water(land, (width * scale, height * scale))
    pen = ImageDraw.Draw(scene)
    for x, y, length in ((1010, 318, 62), (1390, 296, 42), (2030, 334, 74)):
        _boat(pen, x * scale, y * scale, length * scale)
    return grain(scene.resize((width, height), Image.Resampling.LANCZOS), strength=1.2, seed=9)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return (x - radius, y - radius, x + radius, y + radius)


def _ridge(
    canvas: Image.Image, base: int, rise: int, colour: Colour, seed: int, wave: int, *, snow: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = np.arange(canvas.width, dtype=np.float64)
    line = np.zeros_like(x)
    for octave in range(7):
        knots = int(canvas.width / wave * 2**octave) + 3
        values = rng.uniform(-1, 1, knots) * 0.5**octave
        line += np.interp(x, np.linspace(0, canvas.width, knots), values)
    top = base - rise * line
    draw = ImageDraw.Draw(canvas)
    edge = list(zip(x.tolist(), top.tolist(), strict=True))
    draw.polygon([*edge, (canvas.width, canvas.height), (0, canvas.height)], fill=colour)
    if snow:
        limit = base - rise * 0.42
        ragged = limit + rise * 0.16 * np.interp(
            x, np.linspace(0, canvas.width, 400), rng.uniform(-1, 1, 400)
        )
        for column in np.flatnonzero(top < ragged).tolist():
            draw.line((column, top[column], column, ragged[column]), fill=(238, 226, 232))


def _village(draw: ImageDraw.ImageDraw, scale: int) -> None:
    random = jittered(3)
    for x in range(20, 1180, 17):
        ground = 254 + x / 150
        if random.random() < 0.55 or x > 820:
            height = random.randint(16, 34) if x < 820 else random.randint(9, 18)
            points = [(x, ground), (x + 6, ground - height), (x + 12, ground)]
            draw.polygon([(a * scale, b * scale) for a, b in points], fill=(30, 52, 46))
    walls = ((232, 214, 188), (214, 178, 150), (240, 232, 216), (200, 160, 134))
    for number, x in enumerate(range(210, 640, 43)):
        y, w, h = 256, random.randint(26, 34), random.randint(16, 26)
        wall = (x * scale, (y - h) * scale, (x + w) * scale, y * scale)
        draw.rectangle(wall, fill=walls[number % 4])
        roof = [(x - 3, y - h), (x + w / 2, y - h - 13), (x + w + 3, y - h)]
        draw.polygon([(a * scale, b * scale) for a, b in roof], fill=(150, 62, 48))
        for window in (x + 5, x + w - 11):
            pane = (window * scale, (y - h + 5) * scale, (window + 6) * scale, (y - h + 12) * scale)
            draw.rectangle(pane, fill=(255, 214, 120))
    draw.rectangle((402 * scale, 190 * scale, 420 * scale, 256 * scale), fill=(238, 226, 206))
    spire = [(399, 192), (411, 156), (423, 192)]
    draw.polygon([(a * scale, b * scale) for a, b in spire], fill=(84, 92, 112))


def _lighthouse(draw: ImageDraw.ImageDraw, x: int, foot: int, scale: int) -> None:
    height, low, high = 112 * scale, 15 * scale, 9 * scale
    for band in range(5):
        a, b = band / 5, (band + 1) / 5
        wide, narrow = low + (high - low) * a, low + (high - low) * b
        colour = (196, 52, 46) if band % 2 else (246, 240, 230)
        draw.polygon(
            [
                (x - wide, foot - height * a),
                (x + wide, foot - height * a),
                (x + narrow, foot - height * b),
                (x - narrow, foot - height * b),
            ],
            fill=colour,
        )
    top = foot - height
    draw.rectangle((x - 12 * scale, top - 3 * scale, x + 12 * scale, top), fill=(50, 50, 56))
    draw.rectangle(
        (x - 7 * scale, top - 17 * scale, x + 7 * scale, top - 3 * scale), fill=(255, 236, 150)
    )
    draw.polygon(
        [
            (x - 10 * scale, top - 17 * scale),
            (x, top - 29 * scale),
            (x + 10 * scale, top - 17 * scale),
        ],
        fill=(160, 44, 40),
    )


def _water(land: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Mirror the land below the shore, darker and rippled."""
    scene = Image.new("RGB", size)
    scene.paste(land)
    depth = size[1] - land.height
    mirror = np.asarray(land.transpose(Image.Transpose.FLIP_TOP_BOTTOM))[:depth].astype(np.float32)
    rows = np.arange(depth)
    shift = (np.sin(rows / 5.5) * (2 + rows / 22) + np.sin(rows / 2.3) * (1 + rows / 60)).astype(
        int
    )
    rippled = np.stack([np.roll(mirror[row], shift[row], axis=0) for row in rows])
    tint = np.array([52, 84, 120], dtype=np.float32)
    share = np.linspace(0.28, 0.62, depth)[:, None, None]
    water = rippled * (1 - share) + tint * share
    scene.paste(Image.fromarray(water.clip(0, 255).astype(np.uint8)), (0, land.height))
    return scene


def _boat(draw: ImageDraw.ImageDraw, x: int, y: int, length: int) -> None:
    def spot(along: float, up: float) -> tuple[float, float]:
        return (x + along * length, y - up * length)

    mirror = [spot(-0.4, -0.02), spot(0.0, -0.75), spot(0.36, -0.02)]
    draw.polygon(mirror, fill=(150, 158, 172))
    draw.polygon(
        [spot(-0.5, 0.14), spot(0.5, 0.16), spot(0.36, -0.02), spot(-0.38, -0.02)],
        fill=(92, 48, 38),
    )
    draw.line([spot(0, 0.1), spot(0, 1.3)], fill=(60, 44, 38), width=max(2, length // 30))
    draw.polygon([spot(0.04, 0.22), spot(0.04, 1.26), spot(0.48, 0.24)], fill=(252, 246, 236))
    draw.polygon([spot(-0.04, 0.24), spot(-0.04, 1.12), spot(-0.38, 0.26)], fill=(222, 210, 200))


def sign(fonts: Fonts) -> Image.Image:
    """An exit sign under the ceiling of an underground station."""
    hall = gradient(
        (1200, 675),
        [
            (0.0, (88, 92, 98)),
            (0.24, (142, 146, 150)),
            (0.25, (188, 190, 188)),
            (1.0, (138, 140, 140)),
        ],
    )
    draw = ImageDraw.Draw(hall)
    for x in range(-60, 1300, 150):  # wall tiles
        draw.line((x, 170, x, 675), fill=(166, 168, 166), width=3)
    for y in range(250, 675, 85):
        draw.line((0, y, 1200, y), fill=(160, 162, 160), width=3)
    for x in (120, 520, 920):  # ceiling lamps
        draw.polygon([(x, 60), (x + 190, 60), (x + 170, 96), (x + 20, 96)], fill=(255, 255, 246))
    hall = hall.filter(ImageFilter.GaussianBlur(5))
    draw = ImageDraw.Draw(hall)
    for x in (310, 880):
        draw.rectangle((x, 0, x + 10, 220), fill=(70, 72, 76))
    panel = _sign_panel(fonts)
    at = ((hall.width - panel.width) // 2, 205)
    drop_shadow(hall, panel, at, blur=14, opacity=150)
    return grain(hall, strength=2.5, seed=2)


def _sign_panel(fonts: Fonts) -> Image.Image:
    scale = 2
    panel = Image.new("RGBA", (850 * scale, 270 * scale))
    draw = ImageDraw.Draw(panel)
    draw.rounded_rectangle(
        (0, 0, panel.width - 1, panel.height - 1), 14 * scale, fill=(150, 152, 156)
    )
    inner = (6 * scale, 6 * scale, panel.width - 6 * scale, panel.height - 6 * scale)
    draw.rounded_rectangle(inner, 10 * scale, fill=(24, 30, 38))
    white, yellow = (250, 250, 248), (255, 208, 20)
    shaft = [
        (60, 122),
        (112, 70),
        (130, 88),
        (109, 109),
        (200, 109),
        (200, 135),
        (109, 135),
        (130, 156),
        (112, 174),
    ]
    draw.polygon([(x * scale, (y + 13) * scale) for x, y in shaft], fill=white)

    def write(x: int, y: int, text: str, font: str, size: int, fill: Colour) -> None:
        face = fonts.get(font, size * scale)
        draw.text((x * scale, y * scale), text, font=face, fill=fill, anchor="ls")

    bold, plain, latin = "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "Inter-Medium.otf"
    write(246, 152, "出口", bold, 92, yellow)
    write(250, 214, "EXIT", "Inter-SemiBold.otf", 48, yellow)
    draw.rounded_rectangle(
        (456 * scale, 66 * scale, 560 * scale, 204 * scale), 12 * scale, fill=yellow
    )
    draw.text(
        (508 * scale, 135 * scale),
        "B",
        font=fonts.get("Inter-Bold.otf", 104 * scale),
        fill=(24, 30, 38),
        anchor="mm",
    )
    write(600, 96, "人民公园", bold, 46, white)
    write(602, 132, "People’s Park", latin, 27, white)
    write(600, 192, "市图书馆", plain, 46, white)
    write(602, 228, "City Library", latin, 27, white)
    return panel.resize((850, 270), Image.Resampling.LANCZOS)
