"""Several ways to say what a picture shows."""

import re
from collections.abc import Mapping
from typing import Any

import torch

# Where the sound differs from the letter: a unicorn, a one-piece swimsuit, a ukulele; an hourglass.
AN = re.compile(r"(?!uni|uk|use|eu|one\b)[aeiou]|hour|heir|honest", re.IGNORECASE)
HEAD = re.compile(r" (?:with|without|in|of|on|under|and) ")  # what comes after says nothing of the number
PLURAL = re.compile(r"[^su]s$|\b(?:people|men|women|feet)\b", re.IGNORECASE)


def with_article(name: str) -> str:
    """ "a cat", "an apple", but "paw prints": names of many things and lists stay as they are."""
    if PLURAL.search(HEAD.split(name)[0]) or ":" in name:
        return name
    return f"{'an' if AN.match(name) else 'a'} {name}"


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
