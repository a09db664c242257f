"""Several ways to say what a picture shows, with the articles and plurals of English."""

import re
from collections.abc import Mapping
from typing import Any

import torch

# Where the sound differs from the letter: a unicorn, a one-piece swimsuit, a ukulele; an hourglass, an X-ray.
AN = re.compile(r"(?!uni|uk|use|eu|ewe|one\b)[aeiou]|hour|heir|honest|x-", re.IGNORECASE)
HEAD = re.compile(r" (?:with|without|in|of|on|under|and) ")  # what comes after says nothing of the number
PLURAL = re.compile(r"[^su]s$|\b(?:people|men|women|feet|teeth|mice|geese|dice)\b", re.IGNORECASE)
IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "mouse": "mice", "ox": "oxen", "die": "dice", "knife": "knives", "wolf": "wolves",
    "leaf": "leaves", "scarf": "scarves", "elf": "elves", "loaf": "loaves", "calf": "calves", "half": "halves",
    "shelf": "shelves", "thief": "thieves", "life": "lives", "wife": "wives", "cactus": "cacti", "stomach": "stomachs",
    "tomato": "tomatoes", "potato": "potatoes", "mosquito": "mosquitoes", "volcano": "volcanoes", "mango": "mangoes",
    "hero": "heroes", "superhero": "superheroes", "tornado": "tornadoes", "merman": "mermen", "dwarf": "dwarves",
    "merperson": "merpeople", "snowman": "snowmen", "policeman": "policemen", "mongoose": "mongooses",
}  # fmt: skip
UNCHANGED = {
    "sheep", "fish", "deer", "moose", "bison", "buffalo", "shrimp", "squid", "salmon", "trout", "swine", "aircraft",
    "spacecraft", "series", "species", "bread", "rice", "fruit", "luggage",
}  # fmt: skip
ES, IES = re.compile(r"(s|x|z|ch|sh)$", re.IGNORECASE), re.compile(r"([^aeiou])y$", re.IGNORECASE)


def is_plural(name: str) -> bool:
    """Whether a name is of many things already ("paw prints") or of a pair ("scissors")."""
    return bool(PLURAL.search(HEAD.split(name)[0]))


def with_article(name: str) -> str:
    """ "a cat", "an apple", but "paw prints": names of many things and lists stay as they are."""
    if is_plural(name) or ":" in name:
        return name
    return f"{'an' if AN.match(name) else 'a'} {name}"


def plural(name: str) -> str:
    """The name of several: "otters", "mice", "slices of pizza", "women farmers"; a plural stays as it is."""
    if is_plural(name):
        return name
    found = HEAD.search(name)
    head, rest = (name[: found.start()], name[found.start() :]) if found else (name, "")
    *before, last = head.split(" ")
    if before and before[0].lower() in ("man", "woman"):  # of "woman farmer" both words change
        before[0] = IRREGULAR[before[0].lower()]
    return " ".join([*before, _plural_word(last)]) + rest


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in UNCHANGED or any(lower.endswith(f"-{w}") for w in UNCHANGED):
        return word
    if lower in IRREGULAR:
        return word[0] + IRREGULAR[lower][1:]
    if lower.endswith("fish"):
        return word
    if ES.search(word):
        return word + "es"
    return IES.sub(r"\1ies", word) if IES.search(word) else word + "s"


def phrases(row: Mapping[str, Any]) -> list[str]:
    """The captions of a picture: its own, the name alone, the name after the style, and its keywords."""
    name, style = str(row["label"]), str(row["style_words"] or "")
    own = str(row["caption"])
    bare = own.removesuffix(f", {style}")
    tags = [str(t) for t in row.get("tags") or [] if str(t).lower() not in name.lower()]
    styled = [f"{with_article(style)} of {bare}"] if style else []
    keywords = [f"{bare}, {', '.join(tags[:2])}, {style}"] if tags else []
    return [own, own, *styled, bare, *keywords]


def pick(row: Mapping[str, Any], rng: torch.Generator) -> str:
    """One of the captions, by one draw from `rng`; the picture's own is twice as likely as each other."""
    options = phrases(row)
    return options[int(torch.randint(len(options), (1,), generator=rng))]
