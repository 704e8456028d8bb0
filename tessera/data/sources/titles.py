"""Titles as clean English noun phrases: articles, and keys that match across sources."""

import re
import unicodedata

from tessera.data.sources.tables import pairs, words

# Countries and the like that take "the" inside a phrase: "flag of the Netherlands".
_THE_PLACES = words("Netherlands Philippines Bahamas Maldives Gambia Comoros Seychelles") | {
    "British Virgin Islands",
    "Caribbean Netherlands",
    "Central African Republic",
    "Dominican Republic",
    "European Union",
    "Isle of Man",
}
# What a place is called here -> one name for it, whatever the source says.
_PLACES = pairs(
    """
    Czech Republic=Czechia|Viet Nam=Vietnam|Hong Kong SAR China=Hong Kong|Macao SAR China=Macao|
    Vatican=Vatican City|Russian Federation=Russia|Swaziland=Eswatini|Türkiye=Turkey|
    Syrian Arab Republic=Syria|Cote Divoire=Côte d'Ivoire|Macedonia=North Macedonia|
    Brunei Darussalam=Brunei|Congo Kinshasa=Congo - Kinshasa|
    Congo-brazzaville=Congo - Brazzaville|Palestine=Palestinian Territories|
    Papaua New Guinea=Papua New Guinea|Maledives=Maldives|Aaland=Åland Islands|
    Norfolk Islands=Norfolk Island|Faroe=Faroe Islands|Timor Leste=Timor-Leste|
    Myanmar (Burma)=Myanmar|Walloon=Wallonia|US Virgin Islands=U.S. Virgin Islands|
    Missisipi=Mississippi|Tenessee=Tennessee|Saskatuan=Saskatchewan|Suisse=Switzerland|
    Republic of Estonia=Estonia|Sao Tome and Principe=São Tomé & Príncipe|
    Guinea Bissau=Guinea-Bissau|Canada Northwest Territories=Northwest Territories|
    St Pierre Miquelon=St. Pierre & Miquelon|Kernow=Cornwall
    """
)
# Two names of one concept: it is not held out under one and trained under the other.
_SAME = {
    "lady beetle": "ladybird",
    "ladybug": "ladybird",
    "soft ice cream": "ice cream cone",
    "soft serve ice cream cone": "ice cream cone",
    "tv": "television",
    "cell phone": "mobile phone",
    "cellular phone": "mobile phone",
    "phone": "telephone",
    "plane": "airplane",
    "aircraft": "airplane",
    "lightbulb": "light bulb",
    "wrapped gift": "gift",
    "home": "house",
    "bunny": "rabbit",
    "automobile": "car",
    "bike": "bicycle",
    "teacup": "teacup without handle",
    "fries": "french fries",
    "fish cake with swirl": "fish cake",
    "computer": "desktop computer",
    "desktop": "desktop computer",
    "hourglass done": "hourglass",
    "hourglass not done": "hourglass",
    "shopping bag": "bag",
    "heart": "red heart",
    "beer": "beer mug",
    "glass of milk": "milk",
    "arrow pointing up": "up arrow",
    "arrow pointing down": "down arrow",
    "arrow pointing left": "left arrow",
    "arrow pointing right": "right arrow",
    "evergreen": "evergreen tree",
    "spouting whale": "whale",
    "shortcake": "cake",
    "birthday cake": "cake",
    "rugby football": "rugby ball",
    "musical keyboard": "piano",
    "baby chick": "chick",
    "necktie": "tie",
    "thumb up": "thumbs up",
    "backhand index pointing": "pointing hand",
}
# Nouns that take no article, alone or as the last word of a title.
_MASS = words(
    """bread rice spaghetti pasta bacon butter cheese salt honey milk tea coffee water wine beer
    champagne juice lemonade meat sushi tofu food corn garlic ginger broccoli popcorn chocolate
    candy ice fire snow rain fog smoke hail sunshine lightning thunder music money gold silver wood
    mail paper yarn thread soap toothpaste makeup jewelry clothing furniture equipment luggage
    baseball basketball volleyball football tennis badminton golf cricket hockey lacrosse bowling
    softball judo karate yoga aerobics sledding skiing surfing swimming rowing biking cartwheeling
    wrestling juggling fencing soccer rugby knitting camping bacteria dna wireless parking
    lasagna salami fondue salad soup tempura sake algebra sunlight broth tamale
    bamboo seaweed moss grass wheat driftwood lava dust sand currency yin zzz traffic
    toast"""
)  # fmt: skip
_NOT_MASS = re.compile(
    r"\b(pot|bowl|cup|glass|bottle|box|carton|slice|loaf|ball|roll|bag|can|bar|mug|piece|stick|"
    r"field|american|rugby)\b"
)
_PLURAL_ENDINGS_OF_SINGULARS = ("ss", "us", "is", "ous", "'s", "as")
_SINGULAR_S = words(
    """lens gas bus canvas atlas iris cactus compass abacus christmas pancreas chess tennis glass
    dress news series species bonus walrus octopus hippopotamus platypus lotus hibiscus circus
    mass pegasus asparagus cross brass piolens cosmos trellis"""
)
_ALWAYS_PLURAL = words(
    """scissors glasses sunglasses goggles jeans shorts trousers pants briefs tongs pliers
    binoculars headphones fireworks stairs eyes lips fries people men women children dice feet
    teeth mice geese lungs drums skis chopsticks tweezers shears police"""
)
_NO_CONTENT = frozenset({"a", "an", "the", "and", "icon", "symbol", "clipart"})
_SILENT_H = ("hour", "honest", "honour", "heir")
_LONG_U = re.compile(r"(uni(?!m|n[^i])|use|usu|ut[ei]|eu|ukulele|ufo|u-|one\b|once|url|usb)", re.I)
_SPELT = re.compile(r"[A-Z0-9]{1,4}\b")


def with_article(title: str) -> str:
    """Put "a", "an", "the" or nothing before a title, as a simple rule gets it right.

    >>> with_article("ice cream cone")
    'an ice cream cone'
    """
    head = _head(title)
    last = head.split()[-1]
    if title.startswith(("flag of ", "map of ", "number ", "letter ", "letters ", "digit ")):
        return f"the {title}"
    if title[:1].isdigit() and title.endswith("medal"):
        return f"a {title}"
    if re.match(r"(two|three|four|five|six|the|a|an|my|some|several)\s", title):
        return title
    if "'clock" in title or title.endswith("-thirty"):
        return title
    if head.split()[0] in ("man", "woman", "person", "boy", "girl") and last not in ("people",):
        return f"a {title}"
    if _is_plural(last) or (last in _MASS and not _NOT_MASS.search(head)):
        return title
    return f"{'an' if _sounds_like_vowel(title) else 'a'} {title}"


def flag_title(place: str) -> str:
    """Return "flag of X" with the article that X takes."""
    place = _PLACES.get(place, place)
    place = re.sub(r"\band\b", "&", place)
    place = re.sub(r"^Saint ", "St. ", place).replace("St.P", "St. P")
    the = place.startswith("United ") or place.endswith("Islands") or place in _THE_PLACES
    return f"flag of {'the ' if the else ''}{place}".replace("&", "and")


def concept_key(title: str) -> str:
    """Reduce a title to a key that is the same for every source: "Bee 2 (B and W)" -> "bee".

    Lower case, no accents, digits, brackets or articles, the last word in the singular.
    """
    text = unicodedata.normalize("NFKD", title.lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"\([^)]*\)", " ", text).replace("’", "'").replace("'s ", " ")
    found = re.findall(r"[a-z]+", text)
    found = [word for word in found if word not in _NO_CONTENT] or found
    if not found:  # "8 ball" keeps its words, "100" has nothing else
        return re.sub(r"\s+", " ", title.lower()).strip()
    found[-1] = _singular(found[-1])
    digits = "".join(re.findall(r"\d+", text)) if _counts(title) else ""
    key = " ".join([*found, digits] if digits else found)
    return _SAME.get(key, key)


def slug(title: str) -> str:
    """Return the letters and digits of a title joined by hyphens, safe as a file name."""
    text = unicodedata.normalize("NFKD", title.lower().replace("’", ""))
    return re.sub(r"[^a-z0-9]+", "-", text.encode("ascii", "ignore").decode()).strip("-")


def _counts(title: str) -> bool:
    """Tell whether digits are part of the meaning ("number 3", "1st place medal")."""
    return bool(re.match(r"(number|\d+(st|nd|rd|th)\b)", title))


def _head(title: str) -> str:
    """Return the noun phrase before its first preposition or participle: "pot of food" -> "pot"."""
    parts = re.split(
        r"\s(?:of|with|in|on|and|for|from|without|at|over|under|behind|holding|wearing|to|"
        r"pointing|facing|playing|blowing)\s",
        title,
    )
    return parts[0]


def _is_plural(word: str) -> bool:
    if word in _ALWAYS_PLURAL:
        return True
    if word in _SINGULAR_S or not word.endswith("s") or len(word) < 4:
        return False
    return not word.endswith(_PLURAL_ENDINGS_OF_SINGULARS)


def _singular(word: str) -> str:
    if not _is_plural(word) or word in _ALWAYS_PLURAL:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "oes")):
        return word[:-2]
    if word == "leaves":
        return "leaf"
    return word[:-1]


def _sounds_like_vowel(title: str) -> bool:
    first = title.split()[0]
    if _SPELT.match(first) and len(first) <= 4 and first.isupper():
        return first[0] in "AEFHILMNORSX" and first != "SOON"
    if first.startswith(("8", "11", "18")):
        return True
    low = first.lower()
    if low.startswith(_SILENT_H) or low in ("x-ray", "e-mail"):
        return True
    return low[0] in "aeiouåé" and not _LONG_U.match(low)
