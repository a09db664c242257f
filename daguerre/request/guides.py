"""Guides: what steers a drawing beside the negative prompt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from .fields import RequestError, check_fields, choice, number

# How a number of dynamic thresholding runs over the steps.
COURSES = ("constant", "linear down", "cosine down", "half cosine down", "linear up", "cosine up", "half cosine up")


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What steers a drawing beside the negative prompt. As text: "kind" or "kind:field=value,field=value"."""

    kind: str = field(default="", init=False)  # what texts and records call it

    def __post_init__(self) -> None:
        check_fields(self, f"guide {self.kind}: ")
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, str) and any(mark in value for mark in ",;\n"):
                name = f"guide {self.kind}: {f.name}"
                raise RequestError(f"{name} is {value!r}; commas, semicolons and new lines cannot stand there")

    def __str__(self) -> str:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init and getattr(self, f.name) != f.default}
        told = ",".join(
            f"{name}={v:g}" if isinstance(v, float) and float(f"{v:g}") == v else f"{name}={v}"
            for name, v in values.items()
        )
        return f"{self.kind}:{told}" if told else self.kind


@dataclass(frozen=True, kw_only=True)
class PerturbedAttention(Guide):
    """PAG, arXiv:2403.17377: away from what the network draws when places see but themselves. One more call a step."""

    kind: str = field(default="pag", init=False)
    scale: float = number(3.0, 0, 100)
    adaptive: float = number(0.0, 0, 1)  # the scale falls by this with each of the 1,000 timesteps, down to 0
    layers: str = "mid_attn"  # the U-Net's parts whose self-attention is perturbed, joined by +


@dataclass(frozen=True, kw_only=True)
class SmoothedEnergy(Guide):
    """SEG, arXiv:2408.00760: like PAG, but the attention's queries are blurred. One more call a step."""

    kind: str = field(default="seg", init=False)
    scale: float = number(3.0, 0, 100)
    blur: float = number(100.0, 0, 10_000)  # standard deviation in places of the attention; 0 = no effect
    layers: str = "mid_attn"


@dataclass(frozen=True, kw_only=True)
class SelfAttentionGuidance(Guide):
    """SAG, arXiv:2210.00939: away from the picture with blurs where the network looks most. One more call a step."""

    kind: str = field(default="sag", init=False)
    scale: float = number(0.75, -2, 10)
    blur: float = number(1.0, 0.01, 10)  # standard deviation in latent pixels
    threshold: float = number(1.0, 0, 100)  # blurred where attention is more than this; 1 = the average


@dataclass(frozen=True, kw_only=True)
class Autoguidance(Guide):
    """arXiv:2406.02507: away from what a weaker network draws for the same prompt. One more call a step.

    The weaker network is another model's, such as an earlier checkpoint, or this one without the attention of some
    parts. Alone, with a CFG scale of 1, the paper's w is scale + 1.
    """

    kind: str = field(default="auto", init=False)
    scale: float = number(1.0, 0, 100)
    model: str = ""  # a model file or folder of the same family
    sha256: str = ""  # of that; another is refused
    drop: str = ""  # parts of the U-Net whose self-attention is left out, joined by +

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.model) == bool(self.drop):
            raise RequestError("guide auto: give model=FILE or drop=PART, such as drop=mid_attn, and not both")


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjection(Guide):
    """APG, arXiv:2410.02416: high CFG scales without loud colors. No more calls."""

    kind: str = field(default="apg", init=False)
    eta: float = number(0.0, 0, 2)  # the share of guidance along the estimate; 1 = all
    threshold: float = number(15.0, 0, 10_000)  # largest length of the guidance; 0 = any
    momentum: float = number(-0.5, -1, 1)  # of the guidance of the step before; negative: away from it


@dataclass(frozen=True, kw_only=True)
class CFGZero(Guide):
    """CFG-Zero*, arXiv:2503.18886: the negative side scaled to fit the positive. No more calls."""

    kind: str = field(default="zero", init=False)
    steps: int = number(0, 0, 100)  # first steps without any output of the network, for flow models


@dataclass(frozen=True, kw_only=True)
class TangentialDamping(Guide):
    """TCFG, arXiv:2503.18137: of the negative side what it shares with the positive. No more calls."""

    kind: str = field(default="tcfg", init=False)


@dataclass(frozen=True, kw_only=True)
class PerpNeg(Guide):
    """Perp-Neg, arXiv:2304.04968: the negative prompt takes nothing from what the prompt asks for. One more call."""

    kind: str = field(default="perp", init=False)
    scale: float = number(1.0, 0, 100)  # of the negative prompt


@dataclass(frozen=True, kw_only=True)
class DynamicThresholding(Guide):
    """After arXiv:2205.11487: a high CFG scale in the range of values of a lower one. No more calls."""

    kind: str = field(default="threshold", init=False)
    mimic_scale: float = number(7.0, 0, 100)  # the CFG scale that looks right
    mimic_mode: str = choice(*COURSES)  # how that runs over the steps
    mimic_least: float = number(0.0, 0, 100)
    cfg_mode: str = choice(*COURSES)  # how the CFG scale itself runs
    cfg_least: float = number(0.0, 0, 100)
    percentile: float = number(1.0, 0.5, 1)  # of the values, that may not be clipped


@dataclass(frozen=True, kw_only=True)
class FreeU(Guide):
    """arXiv:2309.11497: the decoder listens more to its depth (b), less to what skips it (s). No more calls.

    Good values for SD 1: 1.5, 1.6, 0.9, 0.2; for SDXL: 1.3, 1.4, 0.9, 0.2.
    """

    kind: str = field(default="freeu", init=False)
    b1: float = number(1.3, 0, 3)  # in the decoder's first level
    b2: float = number(1.4, 0, 3)  # in its second
    s1: float = number(0.9, 0, 3)
    s2: float = number(0.2, 0, 3)
    version: int = number(2, 1, 2)  # 2 weighs each place by its strength


@dataclass(frozen=True, kw_only=True)
class SkipNegative(Guide):
    """Saves calls: the negative side is left out of some steps. A1111's NGMS and "skip early CFG"."""

    kind: str = field(default="skip", init=False)
    below: float = number(0.0, 0, 100)  # a noise level, from which on every other step has no negative side
    every: bool = False  # all those steps, not every other
    early: float = number(0.0, 0, 1)  # share of the steps, at the start, without a negative side


# Every guide by its kind, in the order of their application.
GUIDES: Mapping[str, type[Guide]] = {
    "freeu": FreeU,
    "skip": SkipNegative,
    "perp": PerpNeg,
    "tcfg": TangentialDamping,
    "zero": CFGZero,
    "apg": AdaptiveProjection,
    "pag": PerturbedAttention,
    "seg": SmoothedEnergy,
    "sag": SelfAttentionGuidance,
    "auto": Autoguidance,
    "threshold": DynamicThresholding,
}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def read_guide(text: str) -> Guide:
    """The guide that a text such as "pag:scale=3,layers=mid_attn" asks for. Raises RequestError."""
    kind, _, told = text.partition(":")
    if (made := GUIDES.get(kind.strip().lower())) is None:
        raise RequestError(f"unknown guide {kind!r}; {_nearest(kind, GUIDES)}All: {', '.join(GUIDES)}")
    known = {f.name: f for f in fields(made) if f.init}
    values: dict[str, Any] = {}
    for part in filter(str.strip, told.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in known:
            its = f"its fields are {', '.join(known)}" if known else "it has no fields"
            raise RequestError(f"guide {kind}: unknown field {name!r}; {_nearest(name, known)}{its}")
        default: Any = known[name].default
        try:
            values[name] = {"true": True, "false": False}[value.lower()] if default is False else type(default)(value)
        except (KeyError, ValueError):
            wanted = "true or false" if default is False else "a number"
            raise RequestError(f"guide {kind}: {name} is {value!r}; it must be {wanted}") from None
    return made(**values)
