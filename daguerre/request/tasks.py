"""The kinds of requests, one for each task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .fields import RequestError, check_fields, number
from .guides import Guide

RANDOM_SEED = -1
MAX_SEED = 2**32 - 1
MAX_PROMPT = 20_000  # characters
Emphasis = Literal["original", "no norm", "ignore", "none"]
Resize = Literal["stretch", "crop", "fill", "latent"]  # A1111's resize modes 0 to 3
Tiling = Literal["off", "x", "y", "both"]
Noise = Literal["cpu", "a1111", "nv"]  # "nv": the numbers that CUDA's generator would draw
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
    "rho": (0.1, 20),  # below, powers of 1 / rho overflow
    "noise_multiplier": (0, 1.5),
    "image_cfg_scale": (0, 30),
    "mask_blur": (0, 64),
    "padding": (0, 256),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "emphasis": get_args(Emphasis),
    "resize": get_args(Resize),
    "fill": get_args(Fill),
    "tiling": get_args(Tiling),
    "noise": get_args(Noise),
}


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second pass over the picture, enlarged, with all its steps. Texts that are empty are the first pass's."""

    scale: float = number(2.0, 1, 16)
    width: int = number(0, 0, 4096)  # pixels; 0 = by scale
    height: int = number(0, 0, 4096)
    steps: int = number(0, 0, 1000)  # 0 = as many as in the first pass
    strength: float = number(0.7, 0, 1)
    upscaler: str = "Latent"  # a way to enlarge latents, "Lanczos", "Nearest", "built-in", or an upscaler's file
    sampler: str = ""
    schedule: str = ""
    prompt: str = ""
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        check_fields(self, "hires ")


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
    noise: Noise = (
        "cpu"  # "a1111" and "nv" have its Brownian tree in SDE samplers, "cpu" our own path, at half the time
    )
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
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:.10g} to {high:.10g}")
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
