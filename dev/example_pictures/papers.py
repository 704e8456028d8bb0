"""The receipt and the page of a book."""

from decimal import Decimal

from PIL import Image, ImageDraw, ImageFont

from example_pictures.canvas import Fonts, drop_shadow, gradient, grain, jittered, wood

INK = (38, 36, 40)
ITEMS = (
    ("BANANAS 1.2 KG", "2.16"),
    ("WHOLE MILK 1 L  x2", "2.30"),
    ("RYE BREAD", "3.40"),
    ("EGGS, 10", "2.95"),
    ("TOMATOES 0.8 KG", "2.72"),
    ("GROUND COFFEE 250 G", "5.60"),
)
CASH = Decimal("20.00")

# Lewis Carroll, Alice's Adventures in Wonderland (1865), the beginning of chapter I.
ALICE = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having"
    " nothing to do: once or twice she had peeped into the book her sister was reading, but it"
    " had no pictures or conversations in it, “and what is the use of a book,” thought Alice"
    " “without pictures or conversations?”",
    "So she was considering in her own mind (as well as she could, for the hot day made her feel"
    " very sleepy and stupid), whether the pleasure of making a daisy-chain would be worth the"
    " trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes"
    " ran close by her.",
    "There was nothing so very remarkable in that; nor did Alice think it so very much out of the"
    " way to hear the Rabbit say to itself, “Oh dear! Oh dear! I shall be late!” (when she"
    " thought it over afterwards, it occurred to her that she ought to have wondered at this, but"
    " at the time it all seemed quite natural); but when the Rabbit actually took a watch out of"
    " its waistcoat-pocket, and looked at it, and then hurried on, Alice started to her feet, for"
    " it flashed across her mind that she had never before seen a rabbit with either a"
    " waistcoat-pocket, or a watch to take out of it, and burning with curiosity, she ran across"
    " the field after it, and fortunately was just in time to see it pop down a large"
    " rabbit-hole under the hedge.",
    "In another moment down went Alice after it, never once considering how in the world she was"
    " to get out again.",
    "The rabbit-hole went straight on like a tunnel for some way, and then dipped suddenly down,"
    " so suddenly that Alice had not a moment to think about stopping herself before she found"
    " herself falling down a very deep well.",
)


def receipt(fonts: Fonts) -> Image.Image:
    """A till receipt on a table, photographed a little askew."""
    total = sum((Decimal(price) for _, price in ITEMS), Decimal(0))
    vat = (total * 7 / 107).quantize(Decimal("0.01"))
    sheet = Image.new("RGB", (600, 1120), (247, 245, 239))
    draw = ImageDraw.Draw(sheet)
    bold = fonts.get("DejaVuSansMono-Bold.ttf", 40)
    plain = fonts.get("DejaVuSansMono.ttf", 26)
    total_font = fonts.get("DejaVuSansMono-Bold.ttf", 36)
    y = 48
    draw.text((300, y), "HARBOUR GROCERY", font=bold, fill=INK, anchor="ma")
    for line in ("12 Quay Street", "Receipt 004817   Till 2", "14 March 2025      16:42"):
        y += 52 if line.startswith("12") else 38
        draw.text((300, y + 8), line, font=plain, fill=INK, anchor="ma")
    y = _rule(draw, y + 66)
    for name, price in ITEMS:
        y = _row(draw, y, name, price, plain)
    y = _rule(draw, y + 14)
    y = _row(draw, y, "TOTAL EUR", str(total), total_font) + 14
    y = _row(draw, y, "incl. 7% VAT", str(vat), plain)
    y = _row(draw, y, "CASH", str(CASH), plain)
    y = _row(draw, y, "CHANGE", str(CASH - total), plain)
    y = _rule(draw, y + 14)
    draw.text((300, y + 6), "Thank you, see you soon!", font=plain, fill=INK, anchor="ma")
    _barcode(draw, y + 66)
    paper = _shade(sheet)
    turned = paper.rotate(-2.2, resample=Image.Resampling.BICUBIC, expand=True)
    table = wood((800, 1280), seed=4)
    at = ((table.width - turned.width) // 2, (table.height - turned.height) // 2)
    drop_shadow(table, turned, at, blur=16, opacity=150)
    return grain(table, strength=2.2, seed=11)


def _row(
    draw: ImageDraw.ImageDraw, y: float, name: str, price: str, font: ImageFont.FreeTypeFont
) -> int:
    draw.text((44, y), name, font=font, fill=INK)
    draw.text((556, y), price, font=font, fill=INK, anchor="ra")
    return int(y + font.size * 1.65)


def _rule(draw: ImageDraw.ImageDraw, y: float) -> int:
    for x in range(44, 556, 16):
        draw.line((x, y, x + 9, y), fill=INK, width=2)
    return int(y + 24)


def _barcode(draw: ImageDraw.ImageDraw, y: float) -> None:
    random, x = jittered(7), 120
    while x < 480:
        bar, gap = random.choice((2, 2, 4, 6)), random.choice((2, 4, 4, 6))
        draw.rectangle((x, y, x + bar - 1, y + 84), fill=INK)
        x += bar + gap


def _shade(sheet: Image.Image) -> Image.Image:
    """Let the light fall off downwards, and the edges be torn at the top and bottom."""
    light = gradient(
        sheet.size,
        [
            (0.0, (255, 253, 248)),
            (0.55, (250, 247, 240)),
            (0.62, (241, 237, 229)),
            (1.0, (232, 228, 219)),
        ],
    )
    paper = Image.blend(sheet, Image.new("RGB", sheet.size, (247, 245, 239)), 0.08)
    paper.paste(light, (0, 0), paper.convert("L").point(lambda v: 255 if v > 225 else 0))
    alpha = Image.new("L", sheet.size, 255)
    teeth = ImageDraw.Draw(alpha)
    for x in range(0, sheet.width, 12):
        teeth.polygon([(x, 0), (x + 12, 0), (x + 6, 7)], fill=0)
        bottom = sheet.height
        teeth.polygon([(x, bottom), (x + 12, bottom), (x + 6, bottom - 7)], fill=0)
    paper.putalpha(alpha)
    return paper


def page(fonts: Fonts) -> Image.Image:
    """The first page of a chapter, set in one justified column."""
    paper = Image.new("RGB", (1000, 1414), (249, 246, 236))
    draw = ImageDraw.Draw(paper)
    text = fonts.get("EBGaramond12-Regular.otf", 29)
    italic = fonts.get("EBGaramond12-Italic.otf", 40)
    small = fonts.get("EBGaramond12-Regular.otf", 28)
    draw.text(
        (500, 96),
        "CHAPTER I",
        font=fonts.get("EBGaramond12-Regular.otf", 44),
        fill=INK,
        anchor="ma",
    )
    draw.text((500, 160), "Down the Rabbit-Hole", font=italic, fill=INK, anchor="ma")
    draw.line((420, 232, 580, 232), fill=(120, 112, 100), width=2)
    y = 274
    for number, paragraph in enumerate(ALICE):
        indent = 0 if number == 0 else 42
        y = _paragraph(draw, paragraph, left=126, right=874, y=y, font=text, indent=indent)
    draw.text((500, 1346), "7", font=small, fill=INK, anchor="ma")
    return paper


def _paragraph(
    draw: ImageDraw.ImageDraw,
    text: str,
    *,
    left: int,
    right: int,
    y: int,
    font: ImageFont.FreeTypeFont,
    indent: int,
) -> int:
    lines, start = [[]], left + indent
    for word in text.split():
        room = right - (start if len(lines) == 1 else left)
        if font.getlength(" ".join([*lines[-1], word])) > room:
            lines.append([])
        lines[-1].append(word)
    for number, words in enumerate(lines):
        x: float = start if number == 0 else left
        spare = right - x - sum(font.getlength(word) for word in words)
        is_last = number == len(lines) - 1
        space = font.getlength(" ") if is_last else spare / max(1, len(words) - 1)
        for word in words:
            draw.text((round(x), y), word, font=font, fill=INK)
            x += font.getlength(word) + space
        y += 38
    return y
