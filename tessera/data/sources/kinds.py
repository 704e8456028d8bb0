"""The kinds of things that pictures show, the words an answer may use for them, and the answers.

An answer names the kind first and then the thing: "a bird, perhaps a magpie". It is learnt
faster than a bare label and is still right when the guess is not.
"""

from tessera.data.sources.picture import CaptionedPicture
from tessera.data.sources.titles import with_article

# kind -> words that count as naming it. The first one need not be the kind's own name.
KINDS: dict[str, tuple[str, ...]] = {
    "face": ("face", "smiley", "emoticon", "emoji"),
    "hand": ("hand", "fist", "thumb", "finger", "fingers"),
    "part of the body": ("part of the body", "body part", "organ"),
    "person": ("person", "people", "man", "woman", "boy", "girl", "child", "baby"),
    "mammal": ("mammal",),
    "bird": ("bird",),
    "sea animal": ("sea animal", "fish", "sea creature", "marine animal"),
    "bug": ("bug", "insect"),
    "reptile": ("reptile", "amphibian", "lizard", "dinosaur"),
    "flower": ("flower", "blossom"),
    "plant": ("plant", "tree", "leaf"),
    "fruit": ("fruit",),
    "vegetable": ("vegetable",),
    "dish of food": ("dish of food", "dish", "food", "meal"),
    "sweet": ("sweet", "dessert", "candy", "cake"),
    "drink": ("drink", "beverage"),
    "building": ("building", "house"),
    "landscape": ("landscape", "scene", "scenery"),
    "land vehicle": ("land vehicle", "vehicle", "car", "truck", "train"),
    "boat": ("boat", "ship"),
    "aircraft": ("aircraft", "airplane", "plane", "spacecraft"),
    "thing in the sky": ("thing in the sky", "sky", "weather", "moon", "planet"),
    "clock": ("clock", "watch", "timepiece"),
    "piece of sports equipment": ("sports equipment", "sport", "sports", "ball"),
    "toy or game": ("toy", "game"),
    "holiday decoration": ("decoration", "celebration", "holiday", "party"),
    "musical instrument": ("musical instrument", "instrument"),
    "piece of clothing": ("clothing", "garment", "clothes", "shoe", "hat"),
    "tool": ("tool",),
    "weapon": ("weapon",),
    "electronic device": ("electronic device", "device", "computer", "electronics"),
    "science or medical item": ("science", "medical", "medicine", "laboratory"),
    "money": ("money", "coin", "currency", "banknote"),
    "lamp": ("lamp", "lantern", "light bulb"),
    "book or paper": ("book", "paper", "document", "envelope"),
    "stationery item": ("stationery", "office supply", "writing tool"),
    "household thing": ("household", "furniture"),
    "container": ("container", "box", "bag", "vessel"),
    "sign": ("sign", "symbol", "button"),
    "arrow": ("arrow",),
    "letter or number": ("letter", "number", "digit", "character"),
    "heart": ("heart",),
    "shape": ("shape", "circle", "square", "triangle"),
    "map": ("map",),
    "flag": ("flag",),
}


def answer(picture: CaptionedPicture) -> str:
    """Say what a picture shows, kind first: "a bird, perhaps a magpie"."""
    return phrase(picture.kind, picture.title)


def sentence(picture: CaptionedPicture) -> str:
    """Say it as the default model is trained to: "A bird, perhaps a magpie."."""
    text = answer(picture)
    return f"{text[0].upper()}{text[1:]}."


def phrase(kind: str, title: str) -> str:
    """Join a kind and a title to an answer; a title that repeats the kind is left out."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind; kinds are {', '.join(KINDS)}")
    article = "" if kind == "money" else "an " if kind[0] in "aeiou" else "a "
    if title == kind:
        return f"{article}{kind}"
    return f"{article}{kind}, perhaps {with_article(title)}"
