"""How the committed tables of words are written: plain text, so that a line holds many of them."""


def words(text: str) -> frozenset[str]:
    """Read words separated by white space."""
    return frozenset(text.split())


def items(text: str) -> list[str]:
    """Read phrases separated by "|", however the lines are broken."""
    phrases = (" ".join(part.split()) for part in text.split("|"))
    return [phrase for phrase in phrases if phrase]


def pairs(text: str) -> dict[str, str]:
    """Read phrases "from=to" separated by "|"."""
    return {old: new for old, _, new in (item.partition("=") for item in items(text))}
