"""A caption as one step of training says it: wildcards chosen, tags shuffled or left out, or no caption at all."""

import re

import torch

from .config import Captions

BRACES = re.compile(r"([{}|])")


def varied(caption: str, settings: Captions, rng: torch.Generator) -> str:
    """One way to say `caption`, by draws from `rng`; "" when it is left out for guidance."""
    if _chance(settings.dropout, rng):
        return ""
    if settings.wildcards:
        caption = _chosen(caption, rng)
    if settings.shuffle or settings.tag_dropout:
        caption = _tags(caption, settings, rng)
    return f"{settings.prefix}{caption}{settings.suffix}"


def _chosen(caption: str, rng: torch.Generator) -> str:
    """One option of every "{a|b}", which may hold others; a brace without its partner is a letter."""
    opened = [[""]]  # options of each open brace, the last still growing; at the bottom the text itself
    for piece in BRACES.split(caption):
        if piece == "{":
            opened.append([""])
        elif piece == "|" and len(opened) > 1:
            opened[-1].append("")
        elif piece == "}" and len(opened) > 1:
            options = opened.pop()
            opened[-1][-1] += options[int(torch.randint(len(options), (), generator=rng))]
        else:
            opened[-1][-1] += piece
    while len(opened) > 1:
        options = opened.pop()
        opened[-1][-1] += "{" + "|".join(options)
    return opened[0][0]


def _tags(caption: str, settings: Captions, rng: torch.Generator) -> str:
    tags = [tag for part in caption.split(settings.separator) if (tag := part.strip())]
    first, rest = tags[: settings.keep], tags[settings.keep :]
    rest = [tag for tag in rest if not _chance(settings.tag_dropout, rng)]
    if settings.shuffle:
        rest = [rest[i] for i in torch.randperm(len(rest), generator=rng).tolist()]
    return f"{settings.separator.strip()} ".join(first + rest)


def _chance(probability: float, rng: torch.Generator) -> bool:
    return bool(torch.rand((), generator=rng) < probability)
