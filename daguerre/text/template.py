"""A request whose prompts have styles and choices in them, as the requests that are drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from ..request import TextToImage
from .segments import without_comments
from .styles import Style, styled
from .wildcards import Wildcards, expand


def second_prompts(request: TextToImage) -> tuple[str, str]:
    """The prompt and the negative prompt of the second pass's own, without comments; "" is as in the first pass."""
    if request.hires is None:
        return "", ""
    own = request.hires.prompt, request.hires.negative_prompt
    return (without_comments(own[0]), without_comments(own[1])) if request.comments else own


def resolved(
    request: TextToImage, styles: Mapping[str, Style], names: Sequence[str], wildcards: Wildcards
) -> list[TextToImage]:
    """The request with these styles on it and every choice made by the seed of each picture, which must be known.

    One request; where pictures got other prompts, one for each picture. Prompts without any of it, and without
    styles, stay as they were typed. A second pass's own prompts get the same styles, and the same choices where they
    offer the same. Raises RequestError for styles and wildcards that are not there.
    """
    typed = request.prompt, request.negative_prompt
    if request.comments:
        typed = without_comments(request.prompt), without_comments(request.negative_prompt)
    own = second_prompts(request)
    bare = *typed, *own
    both = (
        *styled(*typed, names, styles),
        *(text if typed else "" for text, typed in zip(styled(*own, names, styles), own, strict=True)),
    )

    def chosen(seed: int) -> tuple[str, ...]:
        randoms = Random(seed), Random(f"{seed} no"), Random(seed), Random(f"{seed} no")
        return tuple(expand(text, wildcards, random) for text, random in zip(both, randoms, strict=True))

    seeds = [request.seed + i for i in range(1 if request.variation_strength else request.count)]
    found = [chosen(seed) for seed in seeds]
    if set(found) == {bare}:
        return [request]
    if len(set(found)) == 1:
        return [_saying(request, *found[0])]
    return [_saying(replace(request, seed=s, count=1), *texts) for s, texts in zip(seeds, found, strict=True)]


def _saying(request: TextToImage, prompt: str, negative: str, own: str, own_negative: str) -> TextToImage:
    hires = request.hires and replace(request.hires, prompt=own, negative_prompt=own_negative)
    return replace(request, prompt=prompt, negative_prompt=negative, hires=hires)
