"""Which kind of thing each emoji shows: a table by Unicode subgroup, and exceptions by label.

None means left out: too abstract or too mixed to be judged by eye.
"""

from tessera.data.sources.tables import items, words

SUBGROUP_KINDS: dict[str, str | None] = {
    **dict.fromkeys(
        words("""face-smiling face-affection face-tongue face-hand face-neutral-skeptical
        face-sleepy face-unwell face-hat face-glasses face-concerned face-negative face-costume
        cat-face monkey-face"""),
        "face",
    ),
    "heart": "heart",
    "emotion": "sign",
    **dict.fromkeys(
        words("""hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands
        hand-prop"""),
        "hand",
    ),
    "body-parts": "part of the body",
    **dict.fromkeys(
        words("""person person-gesture person-role person-fantasy person-activity person-sport
        person-resting family person-symbol"""),
        "person",
    ),
    "animal-mammal": "mammal",
    "animal-bird": "bird",
    "animal-amphibian": "reptile",
    "animal-reptile": "reptile",
    "animal-marine": "sea animal",
    "animal-bug": "bug",
    "plant-flower": "flower",
    "plant-other": "plant",
    "food-fruit": "fruit",
    "food-vegetable": "vegetable",
    "food-prepared": "dish of food",
    "food-asian": "dish of food",
    "food-sweet": "sweet",
    "drink": "drink",
    "dishware": "household thing",
    "place-map": "map",
    "place-geographic": "landscape",
    "place-building": "building",
    "place-religious": "building",
    "place-other": "landscape",
    "transport-ground": "land vehicle",
    "transport-water": "boat",
    "transport-air": "aircraft",
    "hotel": None,
    "time": "clock",
    "sky-weather": "thing in the sky",
    "event": "holiday decoration",
    "award-medal": None,
    "sport": "piece of sports equipment",
    "game": "toy or game",
    "arts-crafts": "household thing",
    "clothing": "piece of clothing",
    "sound": "electronic device",
    "music": "electronic device",
    "musical-instrument": "musical instrument",
    "phone": "electronic device",
    "computer": "electronic device",
    "light-video": "electronic device",
    "book-paper": "book or paper",
    "money": "money",
    "mail": "book or paper",
    "writing": "stationery item",
    "office": "stationery item",
    "lock": "household thing",
    "tool": "tool",
    "science": "science or medical item",
    "medical": "science or medical item",
    "household": "household thing",
    "other-object": None,
    **dict.fromkeys(
        words("""transport-sign warning religion zodiac av-symbol gender math punctuation currency
        other-symbol"""),
        "sign",
    ),
    "arrow": "arrow",
    "keycap": "letter or number",
    "alphanum": "letter or number",
    "geometric": "shape",
    "flag": "flag",
    "country-flag": "flag",
    "subdivision-flag": "flag",
}

_EXCEPTIONS: dict[str | None, str] = {
    None: """pile of poo|ghost|alien monster|footprints|paw prints|feather|wing|spider web|microbe|
        empty nest|nest with eggs|brick|rock|wood|fuel pump|wheel|ring buoy|fire|droplet|water wave|
        ring|gem stone|label|film frames|cigarette|knot|performing arts|selfie|nail polish|
        speech balloon|eye in speech bubble|left speech bubble|right anger bubble|thought balloon|
        collision|dizzy|dashing away|hole|ZZZ|sweat droplets|anger symbol|fight cloud|
        fingerprint|kiss|couple with heart|splatter|Japanese symbol for beginner|
        part alternation mark|curly loop|double curly loop|name badge|sparkle|sparkles|
        input symbols|input numbers|input latin letters|input latin uppercase|
        input latin lowercase|chart increasing with yen|motorway|railway track|station|
        parachute|dotted line face|face in clouds|mirror ball|lipstick|umbrella on ground|
        snowman without snow|sled|flower playing cards|hot springs|light rail""",
    "book or paper": """love letter|ticket|admission tickets|memo|receipt|calendar|
        tear-off calendar|spiral notepad|spiral calendar|card index|chart increasing|
        chart decreasing|bar chart|clipboard|identification card|red envelope""",
    "part of the body": "kiss mark",
    "letter or number": "hundred points",
    "container": """amphora|oil drum|luggage|purse|handbag|clutch bag|shopping bags|backpack|
        treasure chest|outbox tray|inbox tray|package|closed mailbox with raised flag|
        closed mailbox with lowered flag|open mailbox with raised flag|
        open mailbox with lowered flag|postbox|ballot box with ballot|briefcase|card file box|
        file cabinet|wastebasket|bucket|basket|jar|toolbox""",
    "tool": """compass|anchor|thermometer|abacus|magnifying glass tilted left|
        magnifying glass tilted right|mouse trap|fire extinguisher|broom|sewing needle|
        shopping cart|safety pin|plunger""",
    "building": "fountain|circus tent|tent",
    "sign": """bus stop|traffic light|horizontal traffic light|vertical traffic light|stop sign|
        construction|barber pole|high voltage|speaker low volume|speaker medium volume|
        speaker high volume|muted speaker|bell with slash|musical score|musical note|musical notes|
        placard|information|place of worship|bullseye|cinema""",
    "toy or game": """carousel horse|playground slide|ferris wheel|roller coaster|balloon|
        nesting dolls|Japanese dolls|boomerang""",
    "piece of sports equipment": "skateboard|roller skate",
    "lamp": "police car light|candle|light bulb|flashlight|red paper lantern|diya lamp",
    "household thing": "seat|umbrella|closed umbrella|umbrella with rain drops|hair pick|knife",
    "holiday decoration": "snowman|Christmas tree",
    "musical instrument": "postal horn|bell",
    "weapon": """dagger|crossed swords|bomb|bow and arrow|shield|water pistol|kitchen knife""",
    "stationery item": "artist palette",
    "shape": "hollow red circle|eight-pointed star|eight-spoked asterisk|cross mark",
    "thing in the sky": "ringed planet|milky way",
    "map": "globe with meridians",
    "science or medical item": "white cane",
    "bird": "phoenix",
    "plant": "tanabata tree|pine decoration",
    "landscape": "moon viewing ceremony",
}
LABEL_KINDS: dict[str, str | None] = {
    label: kind for kind, labels in _EXCEPTIONS.items() for label in items(labels)
}


def emoji_kind(label: str, subgroup: str) -> str | None:
    """Return the kind of an emoji by its CLDR label and Unicode subgroup; None leaves it out."""
    if label.startswith("Japanese “"):
        return "sign"
    if label in LABEL_KINDS:
        return LABEL_KINDS[label]
    return SUBGROUP_KINDS.get(subgroup)
