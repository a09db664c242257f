"""A caption as one step of training says it: wildcards chosen, tags shuffled or left out, or no caption at all."""

import re

import torch

from .config import Captions

WILDCARD = re.compile(r"\{([^{}]*)\}")  # innermost first, so wildcards may hold others


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
    def one(match: re.Match[str]) -> str:
        options = match[1].split("|")
        return options[int(torch.randint(len(options), (), generator=rng))]

    found = 1
    while found:
        caption, found = WILDCARD.subn(one, caption)
    return caption


def _tags(caption: str, settings: Captions, rng: torch.Generator) -> str:
    tags = [tag for part in caption.split(settings.separator) if (tag := part.strip())]
    first, rest = tags[: settings.keep], tags[settings.keep :]
    rest = [tag for tag in rest if not _chance(settings.tag_dropout, rng)]
    if settings.shuffle:
        rest = [rest[i] for i in torch.randperm(len(rest), generator=rng).tolist()]
    return f"{settings.separator.strip()} ".join(first + rest)


def _chance(probability: float, rng: torch.Generator) -> bool:
    return bool(torch.rand((), generator=rng) < probability)
