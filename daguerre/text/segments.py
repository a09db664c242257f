"""From a prompt as it is typed to the texts that are encoded, and when each of them holds.

    # words        a comment, to the end of the line
    a AND b :0.5   two conditions at once, the second half as strong; a weight may be negative
    [a:b:0.5]      schedule.py

A prompt that ends with a weight has it without any AND, as in A1111: "a cat :1.5".
"""

import math
import re
from bisect import bisect_left
from typing import NamedTuple

from ..request import RequestError, TextToImage
from .extra_networks import ExtraNetwork, split_networks
from .prompt import parse
from .schedule import schedule

AND = re.compile(r"\bAND\b")
WEIGHT = re.compile(r"\s*[-+]?(?:\d+\.?|\d*\.\d+)")
COMMENT = re.compile(r"#[^\n]*")


class Part(NamedTuple):
    """One of the texts that a prompt joins by AND."""

    text: str
    weight: float


class Segment(NamedTuple):
    """What holds up to a step, from where the segment before ends."""

    last: int  # 1-based
    positive: tuple[Part, ...]  # at least one
    negative: str


def without_comments(text: str) -> str:
    return COMMENT.sub("", text).strip() if "#" in text else text


def parts(prompt: str) -> list[Part]:
    """The texts that AND joins. Raises RequestError for a weight beyond a float's range."""
    found = []
    for said in AND.split(prompt):
        text, colon, number = said.rstrip().rpartition(":")
        if colon and WEIGHT.fullmatch(number):
            found.append(Part(text.rstrip(), float(number)))
        else:
            found.append(Part(said.rstrip(), 1.0))
    if not all(math.isfinite(part.weight) for part in found):
        raise RequestError("a part of the prompt has a weight beyond all numbers; make it smaller")
    return found


def segments(prompt: str, negative_prompt: str, steps: int, *, after: int = 0) -> list[Segment]:
    """A positive and a negative prompt, over the steps of a pass; `after` is as in `schedule`.

    The negative prompt has no AND.
    """
    joined = parts(prompt)
    texts, weights = [*(part.text for part in joined), negative_prompt], [part.weight for part in joined]
    plans = [schedule(text, steps, after=after) for text in texts]
    found = []
    for end in sorted({entry.last for plan in plans for entry in plan}):
        *positive, negative = (plan[bisect_left(plan, (end,))].text for plan in plans)
        found.append(Segment(end, tuple(map(Part, positive, weights)), negative))
    return found


def plan_of(request: TextToImage, calls: int, *, after: int = 0) -> tuple[list[Segment], tuple[ExtraNetwork, ...]]:
    """What a request's prompts say over a sampler's calls, and the networks that they ask for; `after` as above.

    Raises RequestError for what cannot be read, but for the weights in each text.
    """
    prompt, unwanted = request.prompt, request.negative_prompt
    if request.comments:
        prompt, unwanted = without_comments(prompt), without_comments(unwanted)
    prompt, networks = split_networks(prompt)
    return segments(prompt, unwanted, calls, after=after), networks


def texts_of(plan: list[Segment]) -> set[str]:
    """All that is said in some step."""
    return {text for segment in plan for text in (segment.negative, *(part.text for part in segment.positive))}


def check_prompts(request: TextToImage, calls: int, *, after: int = 0) -> None:
    """Raises RequestError for prompts that cannot be read in some step."""
    texts = texts_of(plan_of(request, calls, after=after)[0])
    for text in texts if request.emphasis != "none" else ():
        parse(text)
