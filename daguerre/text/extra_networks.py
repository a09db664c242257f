"""`<lora:name:0.8>` in a prompt: adapters that a prompt asks for by name.

    <lora:NAME:TE:UNET:DYN>   weights in the text encoders (1) and in the U-Net (TE), and the ranks to use (all)
    <lora:NAME:unet=0.5>      te=, unet= and dyn= in any order, over those by place
    <hypernet:NAME:WEIGHT>

They are taken out of a prompt before it is read, and are plain text in a negative one.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from ..request import RequestError

TAG = re.compile(r"<(\w+):([^<>]*)>")
RANKS = re.compile(r"\s*0*[1-9][0-9]{0,8}\s*", re.ASCII)
KINDS: dict[str, Literal["lora", "hypernet"]] = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}


@dataclass(frozen=True)
class ExtraNetwork:
    """What one tag asks for."""

    kind: Literal["lora", "hypernet"]
    name: str
    text_weight: float = 1.0  # of a LoRA in the text encoders
    weight: float = 1.0  # in the U-Net
    ranks: int | None = None  # only the first so many of a LoRA; None: all


def split_networks(prompt: str) -> tuple[str, tuple[ExtraNetwork, ...]]:
    """The prompt without its tags, and what they ask for. Raises RequestError for a tag that makes no sense."""
    found = [network(match[0], match[1], match[2].split(":")) for match in TAG.finditer(prompt)]
    return (TAG.sub("", prompt) if found else prompt), tuple(found)


def network(tag: str, kind: str, values: list[str]) -> ExtraNetwork:
    """What a tag of this kind with these values, the first of them its name, asks for."""
    if kind not in KINDS:
        raise RequestError(f"the prompt has {tag:.60}, and {kind!r} is not known; write <lora:name> or <hypernet:name>")
    named = dict(value.split("=", 1) for value in values[1:] if "=" in value)
    given = [value for value in values[1:] if "=" not in value]
    places = ("te", "unet", "dyn") if KINDS[kind] == "lora" else ("unet",)
    if not values[0].strip() or len(given) > len(places) or named.keys() - set(places):
        usage = "<lora:name:te:unet:dyn>, te=, unet= and dyn=" if KINDS[kind] == "lora" else "<hypernet:name:weight>"
        raise RequestError(f"the prompt has {tag:.60}, which cannot be read; the form is {usage}")
    said = {**dict(zip(places, given, strict=False)), **named}
    text_weight = weight_of(tag, said.get("te", "1"))
    weight = weight_of(tag, said["unet"]) if "unet" in said else text_weight
    ranks = said.get("dyn")
    if ranks is not None and not RANKS.fullmatch(ranks):
        raise RequestError(f"the prompt has {tag:.60}; dyn is {ranks!r:.20}, and it must be a whole number above 0")
    return ExtraNetwork(KINDS[kind], values[0].strip(), text_weight, weight, int(ranks) if ranks else None)


def weight_of(tag: str, text: str) -> float:
    """A finite number. Raises RequestError, naming the tag."""
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise RequestError(f"the prompt has {tag:.60}; {text!r:.20} is no weight; write a number, such as 0.8")
    return weight
