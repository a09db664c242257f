"""Several ways to say what a picture shows."""

from collections.abc import Mapping
from typing import Any

import torch

VOWELS = ("a", "e", "i", "o", "u")


def phrases(row: Mapping[str, Any]) -> list[str]:
    """The captions of a picture: its own, the name alone, the name after the style, and its keywords."""
    name, style = str(row["label"]), str(row["style_words"] or "")
    own = str(row["caption"])
    bare = own.removesuffix(f", {style}")
    tags = [str(t) for t in row.get("tags") or [] if str(t).lower() not in name.lower()]
    article = "an" if style.startswith(VOWELS) else "a"
    styled = [f"{article} {style} of {bare}"] if style else []
    keywords = [f"{bare}, {', '.join(tags[:2])}, {style}"] if tags else []
    return [own, own, *styled, bare, *keywords]


def pick(row: Mapping[str, Any], rng: torch.Generator) -> str:
    """One of the captions, by one draw from `rng`; the picture's own is twice as likely as each other."""
    options = phrases(row)
    return options[int(torch.randint(len(options), (1,), generator=rng))]
