"""What a user can ask for. The command line, the record inside a picture and the library share these types."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

RANDOM_SEED = -1
MAX_SEED = 2**32 - 1
MAX_PROMPT = 20_000  # characters
Emphasis = Literal["original", "no norm", "ignore", "none"]
Resize = Literal["stretch", "crop", "fill", "latent"]  # A1111's resize modes 0 to 3
Tiling = Literal["off", "x", "y", "both"]
Fill = Literal["fill", "original", "latent noise", "latent nothing"]  # A1111's masked contents 0 to 3
# Smallest and largest value of each number; the only place where limits are written down.
LIMITS: dict[str, tuple[float, float]] = {
    "enlarge": (1, 16),
    "tile": (64, 4096),
    "overlap": (0, 0.75),
    **dict.fromkeys(("guidance_rescale", "eta", "variation_strength", "strength"), (0, 1)),
    **dict.fromkeys(("seed", "variation_seed"), (RANDOM_SEED, MAX_SEED)),
    **dict.fromkeys(("width", "height"), (64, 4096)),
    **dict.fromkeys(("seed_width", "seed_height", "left", "right", "up", "down"), (0, 4096)),
    **dict.fromkeys(("s_tmin", "s_tmax", "sigma_min", "sigma_max"), (0, 5000)),
    "steps": (1, 1000),
    "cfg_scale": (0, 100),
    "count": (1, 1000),
    "clip_skip": (1, 12),
    "s_churn": (0, 100),
    "s_noise": (0, 2),
    "ensd": (0, MAX_SEED),
    "rho": (0, 20),
    "noise_multiplier": (0, 1.5),
    "image_cfg_scale": (0, 30),
    "mask_blur": (0, 64),
    "padding": (0, 256),
}
# How a number of dynamic thresholding runs over the steps.
COURSES = ("constant", "linear down", "cosine down", "half cosine down", "linear up", "cosine up", "half cosine up")
CHOICES: dict[str, tuple[str, ...]] = {
    "emphasis": get_args(Emphasis),
    "resize": get_args(Resize),
    "fill": get_args(Fill),
    "tiling": get_args(Tiling),
}


class RequestError(ValueError):
    """A request that cannot be carried out; the message names the field, what is wrong and what to do."""


def _number(default: float, low: float, high: float) -> Any:
    """A field that holds a number from low to high."""
    return field(default=default, metadata={"limits": (low, high)})


def _choice(*choices: str) -> Any:
    """A field that holds one of some texts, the first by default."""
    return field(default=choices[0], metadata={"choices": choices})


def _check_fields(of: Any, told: str) -> None:
    """Refuses a field's value outside of its limits, choices and type; `told` stands before the field's name."""
    for f in fields(of):
        value, name = getattr(of, f.name), told + f.name
        if "limits" in f.metadata:
            low, high = f.metadata["limits"]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
            if isinstance(f.default, int) and value != int(value):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
        elif not isinstance(value, type(f.default)):
            raise RequestError(f"{name} is {value!r}; it must be {'true or false' if f.default is False else 'text'}")
        if value not in f.metadata.get("choices", [value]):
            raise RequestError(f"{name} is {value!r}; choose one of {', '.join(f.metadata['choices'])}")


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What steers a drawing beside the negative prompt. As text: "kind" or "kind:field=value,field=value"."""

    kind: str = field(default="", init=False)  # what texts and records call it

    def __post_init__(self) -> None:
        _check_fields(self, f"guide {self.kind}: ")
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
    scale: float = _number(3.0, 0, 100)
    adaptive: float = _number(0.0, 0, 1)  # the scale falls by this with each of the 1,000 timesteps, down to 0
    layers: str = "mid_attn"  # the U-Net's parts whose self-attention is perturbed, joined by +


@dataclass(frozen=True, kw_only=True)
class SmoothedEnergy(Guide):
    """SEG, arXiv:2408.00760: like PAG, but the attention's queries are blurred. One more call a step."""

    kind: str = field(default="seg", init=False)
    scale: float = _number(3.0, 0, 100)
    blur: float = _number(100.0, 0, 10_000)  # standard deviation in places of the attention; 0 = no effect
    layers: str = "mid_attn"


@dataclass(frozen=True, kw_only=True)
class SelfAttentionGuidance(Guide):
    """SAG, arXiv:2210.00939: away from the picture with blurs where the network looks most. One more call a step."""

    kind: str = field(default="sag", init=False)
    scale: float = _number(0.75, -2, 10)
    blur: float = _number(1.0, 0.01, 10)  # standard deviation in latent pixels
    threshold: float = _number(1.0, 0, 100)  # blurred where attention is more than this; 1 = the average


@dataclass(frozen=True, kw_only=True)
class Autoguidance(Guide):
    """arXiv:2406.02507: away from what a weaker network draws for the same prompt. One more call a step.

    The weaker network is another model's, such as an earlier checkpoint, or this one without the attention of some
    parts. Alone, with a CFG scale of 1, the paper's w is scale + 1.
    """

    kind: str = field(default="auto", init=False)
    scale: float = _number(1.0, 0, 100)
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
    eta: float = _number(0.0, 0, 2)  # the share of guidance along the estimate; 1 = all
    threshold: float = _number(15.0, 0, 10_000)  # largest length of the guidance; 0 = any
    momentum: float = _number(-0.5, -1, 1)  # of the guidance of the step before; negative: away from it


@dataclass(frozen=True, kw_only=True)
class CFGZero(Guide):
    """CFG-Zero*, arXiv:2503.18886: the negative side scaled to fit the positive. No more calls."""

    kind: str = field(default="zero", init=False)
    steps: int = _number(0, 0, 100)  # first steps without any output of the network, for flow models


@dataclass(frozen=True, kw_only=True)
class TangentialDamping(Guide):
    """TCFG, arXiv:2503.18137: of the negative side what it shares with the positive. No more calls."""

    kind: str = field(default="tcfg", init=False)


@dataclass(frozen=True, kw_only=True)
class PerpNeg(Guide):
    """Perp-Neg, arXiv:2304.04968: the negative prompt takes nothing from what the prompt asks for. One more call."""

    kind: str = field(default="perp", init=False)
    scale: float = _number(1.0, 0, 100)  # of the negative prompt


@dataclass(frozen=True, kw_only=True)
class DynamicThresholding(Guide):
    """After arXiv:2205.11487: a high CFG scale in the range of values of a lower one. No more calls."""

    kind: str = field(default="threshold", init=False)
    mimic_scale: float = _number(7.0, 0, 100)  # the CFG scale that looks right
    mimic_mode: str = _choice(*COURSES)  # how that runs over the steps
    mimic_least: float = _number(0.0, 0, 100)
    cfg_mode: str = _choice(*COURSES)  # how the CFG scale itself runs
    cfg_least: float = _number(0.0, 0, 100)
    percentile: float = _number(1.0, 0.5, 1)  # of the values, that may not be clipped


@dataclass(frozen=True, kw_only=True)
class FreeU(Guide):
    """arXiv:2309.11497: the decoder listens more to its depth (b), less to what skips it (s). No more calls.

    Good values for SD 1: 1.5, 1.6, 0.9, 0.2; for SDXL: 1.3, 1.4, 0.9, 0.2.
    """

    kind: str = field(default="freeu", init=False)
    b1: float = _number(1.3, 0, 3)  # in the decoder's first level
    b2: float = _number(1.4, 0, 3)  # in its second
    s1: float = _number(0.9, 0, 3)
    s2: float = _number(0.2, 0, 3)
    version: int = _number(2, 1, 2)  # 2 weighs each place by its strength


@dataclass(frozen=True, kw_only=True)
class SkipNegative(Guide):
    """Saves calls: the negative side is left out of some steps. A1111's NGMS and "skip early CFG"."""

    kind: str = field(default="skip", init=False)
    below: float = _number(0.0, 0, 100)  # a noise level, from which on every other step has no negative side
    every: bool = False  # all those steps, not every other
    early: float = _number(0.0, 0, 1)  # share of the steps, at the start, without a negative side


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


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second pass over the picture, enlarged, with all its steps. Texts that are empty are the first pass's."""

    scale: float = _number(2.0, 1, 16)
    width: int = _number(0, 0, 4096)  # pixels; 0 = by scale
    height: int = _number(0, 0, 4096)
    steps: int = _number(0, 0, 1000)  # 0 = as many as in the first pass
    strength: float = _number(0.7, 0, 1)
    upscaler: str = "Latent"  # a way to enlarge latents, "Lanczos", "Nearest", "built-in", or an upscaler's file
    sampler: str = ""
    schedule: str = ""
    prompt: str = ""
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        _check_fields(self, "hires ")


@dataclass(frozen=True, kw_only=True)
class TextToImage:
    """One text-to-image request: picture i of `count` has seed `seed + i`."""

    prompt: str
    negative_prompt: str = ""
    steps: int = 20
    sampler: str = "Euler a"
    schedule: str = "automatic"
    cfg_scale: float = 7.0  # prompt relevance; 1 turns guidance and the negative prompt off
    guidance_rescale: float = 0.0  # arXiv:2305.08891, section 3.4
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # the part of the steps that is guided, arXiv:2404.07724
    guides: tuple[Guide, ...] = ()  # beside the negative prompt, each kind once; their order means nothing
    seed: int = RANDOM_SEED  # -1 = random
    width: int = 512  # pixels
    height: int = 512
    count: int = 1
    clip_skip: int = 1  # 1 = the text encoder's last layer, 2 = the one before
    emphasis: Emphasis = "original"  # how word weights are applied
    comments: bool = True  # a "#" and what follows it on its line are no part of a prompt
    eta: float | None = None  # noise that each step renews: 0 = none, 1 = all; None = as the sampler is known
    s_churn: float = 0.0  # noise that is added over all steps of Euler, Heun, DPM2, in the terms of arXiv:2206.00364
    s_tmin: float = 0.0  # between these noise levels
    s_tmax: float = 0.0  # 0 = no end
    s_noise: float = 1.0  # standard deviation of the noise that samplers add
    ensd: int = 0  # eta noise seed delta: the noise within steps comes from the seed this far on
    rho: float = 0.0  # of the Karras and polyexponential schedules; 0 = their own
    sigma_min: float = 0.0  # the noise levels that a schedule goes between; 0 = those that the model was trained on
    sigma_max: float = 0.0
    variation_seed: int = RANDOM_SEED  # of the noise that is mixed in; -1 = random
    variation_strength: float = 0.0  # 0 = the seed's own noise, 1 = the variation seed's
    seed_width: int = 0  # pixels: noise as for a picture of this size, in the middle; 0 = the picture's own
    seed_height: int = 0
    tiling: Tiling = "off"  # in which directions the picture repeats without a seam
    hires: Hires | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not hasattr(self, name):
                continue
            value = getattr(self, name)
            usual = value == getattr(type(self), name)  # may lie outside: 0 for "the given picture's"
            if value is None and usual:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not (usual or low <= value <= high):
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
            if type(getattr(type(self), name)) is int and value != int(value):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
        for name in ("width", "height", "seed_width", "seed_height", "tile"):
            if getattr(self, name, 0) % 8:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be a multiple of 8")
        for name in ("prompt", "negative_prompt", "sampler", "schedule", "upscaler"):
            text = getattr(self, name, "")
            if not isinstance(text, str) or len(text) > MAX_PROMPT:
                raise RequestError(f"{name} must be a text of at most {MAX_PROMPT} characters")
        for name, choices in CHOICES.items():
            if hasattr(self, name) and getattr(self, name) not in choices:
                raise RequestError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not all(isinstance(guide, Guide) for guide in self.guides):
            raise RequestError(f"guides is {self.guides!r}; it must hold guides, such as PerturbedAttention(scale=3)")
        kinds = [guide.kind for guide in self.guides]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise RequestError(f"guides has {twice[0]!r} twice; give each kind of guide once")
        if bool(self.seed_width) != bool(self.seed_height):
            raise RequestError("seed_width and seed_height belong together; give both or neither")
        if not isinstance(self.hires, Hires | None) or (self.hires and isinstance(self, ImageToImage)):
            raise RequestError("hires must be a Hires, for text to image, or None")
        start, end = self.guidance_interval
        if not 0 <= start <= end <= 1:
            raise RequestError(f"guidance_interval is {start, end}; it must be two shares with 0 <= start <= end <= 1")


@dataclass(frozen=True, kw_only=True)
class ImageToImage(TextToImage):
    """Begins with a given picture in noise instead of noise alone."""

    width: int = 0  # pixels; 0 = the given picture's
    height: int = 0
    strength: float = 0.75  # share of the noise levels: 0 = the picture as it is, 1 = no more than traces of it
    exact_steps: bool = False  # all of `steps` in the part that is drawn, not `strength` of them
    resize: Resize = "crop"  # how a picture of another shape becomes the picture's size
    noise_multiplier: float = 1.0  # of the noise that the picture begins in


@dataclass(frozen=True, kw_only=True)
class Inpaint(ImageToImage):
    """Draws the masked part of a given picture anew; every other pixel stays as it is."""

    mask_blur: float = 4.0  # pixels: standard deviation of the mask's soft edge
    fill: Fill = "original"  # what the masked part begins as
    only_masked: bool = False  # draw the masked part at full size, and paste it back small
    padding: int = 32  # pixels of the picture around it that are seen then
    invert: bool = False  # draw what the mask leaves out
    differential: bool = False  # gray in the mask is how much may change: arXiv:2306.00950


@dataclass(frozen=True, kw_only=True)
class Outpaint(ImageToImage):
    """Draws on beyond the edges of a given picture, in windows of the request's size; 0 = the model's own."""

    mask_blur: float = 4.0  # pixels: standard deviation of the soft edge, which lies in the given picture
    fill: Fill = "fill"  # the picture mirrored
    left: int = 0  # pixels to add
    right: int = 0
    up: int = 0
    down: int = 0


@dataclass(frozen=True, kw_only=True)
class TiledUpscale(ImageToImage):
    """Enlarges a picture, and draws it over in tiles of the size that the model knows: A1111's SD upscale."""

    strength: float = 0.3
    enlarge: float = 2.0  # times as large along each side, where width and height are 0
    upscaler: str = "built-in"  # or Lanczos, Nearest, an upscaler's file
    tile: int = 0  # pixels along each side; 0 = the model's own size
    overlap: float = 0.25  # share of a tile's side that its neighbor draws, too


@dataclass(frozen=True, kw_only=True)
class Edit(ImageToImage):
    """Changes a picture as the prompt tells, by a model trained for it: arXiv:2211.09800."""

    strength: float = 1.0  # 1 begins with noise alone
    image_cfg_scale: float = 1.5  # how closely to keep to the picture


# Every kind of request, by the name that a record calls it.
REQUESTS: Mapping[str, type[TextToImage]] = {
    kind.__name__: kind for kind in (TextToImage, ImageToImage, Inpaint, Outpaint, TiledUpscale, Edit)
}
