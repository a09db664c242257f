"""A request whose prompts have styles and choices in them, as the requests that are drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from ..request import TextToImage
from .segments import without_comments
from .styles import Style, styled
from .wildcards import Wildcards, expand


def resolved(
    request: TextToImage, styles: Mapping[str, Style], names: Sequence[str], wildcards: Wildcards
) -> list[TextToImage]:
    """The request with these styles on it and every choice made by the seed of each picture, which must be known.

    One request; where pictures got other prompts, one for each picture. Prompts without any of it, and without
    styles, stay as they were typed. Raises RequestError for styles and wildcards that are not there.
    """
    typed = request.prompt, request.negative_prompt
    bare = typed
    if request.comments:
        bare = without_comments(request.prompt), without_comments(request.negative_prompt)
    prompt, negative = styled(*bare, names, styles)
    seeds = [request.seed + i for i in range(1 if request.variation_strength else request.count)]
    found = [(expand(prompt, wildcards, Random(s)), expand(negative, wildcards, Random(f"{s} no"))) for s in seeds]
    if set(found) == {bare}:
        return [request]
    if len(set(found)) == 1:
        return [replace(request, prompt=found[0][0], negative_prompt=found[0][1])]
    return [
        replace(request, prompt=prompt, negative_prompt=negative, seed=seed, count=1)
        for seed, (prompt, negative) in zip(seeds, found, strict=True)
    ]
