"""Several ways to say what a picture shows, with the articles and plurals of English."""

import re
from collections.abc import Mapping
from typing import Any

import torch

# Where the sound differs from the letter: a unicorn, a one-piece swimsuit, a UFO; an hourglass, an X-ray, an 8 ball.
AN = re.compile(
    r"(?!uni(?![nm])|uk|us(?:e|b|\b)|ut[ei]|ufo|eu|ewe|one(?:\b|way))[aeiou]|hour|heir|hon(?:est|or)|herb\b|x-|8",
    re.IGNORECASE,
)
# What comes after says nothing of the number: "slice of pizza", "man lifting weights".
HEAD = re.compile(
    r" (?:with|without|in|of|on|over|under|and|to|for|holding|showing)(?= )"
    r"|(?:(?<=\bman)|(?<=\bwoman)|(?<=\bperson)|(?<=\bmen)|(?<=\bwomen)|(?<=\bpeople)|(?<=\bface)) \w+ing\b"
)
PLURAL = re.compile(
    r"[^sui]s$|\b(?:skis|taxis|saris|people|(?:wo)?men|children|feet|teeth|mice|geese|dice)$", re.IGNORECASE
)
ONE = re.compile(r"\b(?:lens|gas|canvas|atlas|gps|vhs|rhinoceros|thermos|(?:christ|x)mas)$", re.IGNORECASE)
IRREGULAR = {
    "person": "people", "merperson": "merpeople", "ox": "oxen", "die": "dice", "scarf": "scarves", "elf": "elves",
    "calf": "calves", "half": "halves", "thief": "thieves", "life": "lives", "dwarf": "dwarves", "cactus": "cacti",
    "stomach": "stomachs", "tomato": "tomatoes", "potato": "potatoes", "mosquito": "mosquitoes", "mango": "mangoes",
    "volcano": "volcanoes", "hero": "heroes", "superhero": "superheroes", "tornado": "tornadoes",
    "mongoose": "mongooses",
}  # fmt: skip
COMPOUND = {  # words that others end in: "snowman", "bookshelf"
    "man": "men", "child": "children", "foot": "feet", "tooth": "teeth", "goose": "geese", "mouse": "mice",
    "knife": "knives", "wife": "wives", "wolf": "wolves", "leaf": "leaves", "loaf": "loaves", "shelf": "shelves",
}  # fmt: skip
COMPOUNDED = re.compile(rf"(?<!\bhu)(?<!\bro)(?<!\bger)(?<!\bsha)(?<!\bcai)(?<!\botto)(?:{'|'.join(COMPOUND)})$")
UNCOUNTABLE = re.compile(  # of which there is some, but not one
    r".*\b(art|bacon|badminton|bowling|bread|broccoli|butter|camping|cheese|construction|corn|curling|dna|food|fog"
    r"|furniture|garlic|ginger|hockey|honey|ice|jewelry|juice|lacrosse|lightning|luggage|milk|money|music|popcorn|rice"
    r"|salt|sand|soap|spaghetti|sugar|sushi|tennis|thread|water|wood|yarn)",
    re.IGNORECASE,
)
UNCHANGED = re.compile(
    r".*(fish|\b(?:sheep|deer|moose|bison|buffalo|shrimp|squid|salmon|trout|swine|series|species|fruit)"
    r"|\b(?:air|space)craft)",
    re.IGNORECASE,
)
ES, IES = re.compile(r"(s|x|z|ch|sh)$", re.IGNORECASE), re.compile(r"([^aeiou])y$", re.IGNORECASE)
# Styles that are things themselves, so that there is one *of* something: a "3d render", not a "bold flat".
OBJECT = re.compile(r".*\b(render|drawing|cartoon|sticker|clip art|icon|silhouette|painting|photo|sketch)")


def is_plural(name: str) -> bool:
    """Whether a name is of many things already ("paw prints") or of a pair ("scissors")."""
    head = _split(name)[0]
    return bool(PLURAL.search(head)) and not ONE.search(head)


def with_article(name: str) -> str:
    """ "a cat", "an apple"; but "paw prints", "bread": names of many things, substances and lists stay as they are."""
    if is_plural(name) or ":" in name or UNCOUNTABLE.fullmatch(_split(name)[0]):
        return name
    return f"{'an' if AN.match(name) else 'a'} {name}"


def plural(name: str) -> str:
    """The name of several: "otters", "mice", "slices of pizza", "women farmers"; a plural stays as it is."""
    head, rest = _split(name)
    if is_plural(name) or UNCOUNTABLE.fullmatch(head) or UNCHANGED.fullmatch(head):
        return name
    *before, last = head.split(" ")
    if before and before[0].lower() in ("man", "woman"):  # of "woman farmer" both words change
        before[0] = _plural_word(before[0])
    return " ".join([*before, _plural_word(last)]) + rest


def _split(name: str) -> tuple[str, str]:
    """The words that say what there is, and all that come after."""
    found = HEAD.search(name)
    return (name[: found.start()], name[found.start() :]) if found else (name, "")


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in IRREGULAR:
        return word[0] + IRREGULAR[lower][1:]
    if found := COMPOUNDED.search(lower):
        start = found.start()
        return word[: start + 1] + COMPOUND[found.group()][1:]
    if ES.search(word):
        return word + "es"
    return IES.sub(r"\1ies", word) if IES.search(word) else word + "s"


def in_style(said: str, style: str) -> list[str]:
    """What is said, as a sentence with its style: "a cat in a bold flat style", "a 3d render of a cat"."""
    manners = [f"{said} in {style} style", f"{said} in {with_article(f'{style} style')}"]
    if not OBJECT.fullmatch(style):
        return manners
    return [f"{with_article(style)} of {said}", f"{style} of {said}", manners[0]]


def phrases(row: Mapping[str, Any]) -> list[str]:
    """The captions of a picture, as its table and as people say it; what comes more than once is as much likelier.

    With the style: in front, behind and in sentences; without: with an article, without, in lower case; with and by
    its keywords, as far as they say more than the name.
    """
    name, style, own = str(row["label"]), str(row["style_words"] or ""), str(row["caption"])
    bare = own.removesuffix(f", {style}")
    short = re.sub(r"^an? ", "", bare).lower()
    tags = [str(t) for t in row.get("tags") or [] if str(t).lower() not in name.lower()]
    plain = [bare, short, f"picture of {bare}"]
    if not style:
        return [own, own, *plain, *([f"{bare}, {', '.join(tags[:2])}"] if tags else [])]
    styled = [*in_style(bare, style), f"{short}, {style}", f"{style}, {short}"]
    keywords = [f"{', '.join(tags[:3])}, {style}", f"{bare}, {', '.join(tags[:2])}, {style}"] if tags else []
    return [own, own, own, *styled, *plain, *keywords]


def pick(row: Mapping[str, Any], rng: torch.Generator) -> str:
    """One of the captions, by one draw from `rng`; the picture's own is likelier than each other."""
    options = phrases(row)
    return options[int(torch.randint(len(options), (1,), generator=rng))]
