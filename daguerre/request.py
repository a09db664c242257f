"""What a user can ask for. The command line, the record inside a picture and the library share these types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

RANDOM_SEED = -1
MAX_SEED = 2**32 - 1
MAX_PROMPT = 20_000  # characters
Emphasis = Literal["original", "no norm", "ignore", "none"]
Resize = Literal["stretch", "crop", "fill", "latent"]  # A1111's resize modes 0 to 3
Fill = Literal["fill", "original", "latent noise", "latent nothing"]  # A1111's masked contents 0 to 3
# Smallest and largest value of each number; the only place where limits are written down.
LIMITS: dict[str, tuple[float, float]] = {
    "steps": (1, 1000),
    "cfg_scale": (0, 100),
    "guidance_rescale": (0, 1),
    "seed": (RANDOM_SEED, MAX_SEED),
    "width": (64, 4096),
    "height": (64, 4096),
    "count": (1, 1000),
    "clip_skip": (1, 12),
    "variation_seed": (RANDOM_SEED, MAX_SEED),
    "variation_strength": (0, 1),
    "seed_width": (0, 4096),
    "seed_height": (0, 4096),
    "strength": (0, 1),
    "noise_multiplier": (0, 1.5),
    "mask_blur": (0, 64),
    "padding": (0, 256),
    "left": (0, 4096),
    "right": (0, 4096),
    "up": (0, 4096),
    "down": (0, 4096),
}


CHOICES: dict[str, tuple[str, ...]] = {
    "emphasis": get_args(Emphasis),
    "resize": get_args(Resize),
    "fill": get_args(Fill),
}


class RequestError(ValueError):
    """A request that cannot be carried out; the message names the field, what is wrong and what to do."""


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
    seed: int = RANDOM_SEED  # -1 = random
    width: int = 512  # pixels
    height: int = 512
    count: int = 1
    clip_skip: int = 1  # 1 = the text encoder's last layer, 2 = the one before
    emphasis: Emphasis = "original"  # how word weights are applied
    variation_seed: int = RANDOM_SEED  # of the noise that is mixed in; -1 = random
    variation_strength: float = 0.0  # 0 = the seed's own noise, 1 = the variation seed's
    seed_width: int = 0  # pixels: noise as for a picture of this size, in the middle; 0 = the picture's own
    seed_height: int = 0
    tiling: bool = False  # edges that fit one another, so that the picture repeats without seams

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not hasattr(self, name):
                continue
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
            if type(getattr(type(self), name)) is int and value != int(value):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
        for name in ("width", "height", "seed_width", "seed_height"):
            if getattr(self, name) % 8:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be a multiple of 8")
        for name in ("prompt", "negative_prompt", "sampler", "schedule"):
            if not isinstance(getattr(self, name), str) or len(getattr(self, name)) > MAX_PROMPT:
                raise RequestError(f"{name} must be a text of at most {MAX_PROMPT} characters")
        for name, choices in CHOICES.items():
            if hasattr(self, name) and getattr(self, name) not in choices:
                raise RequestError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        start, end = self.guidance_interval
        if not 0 <= start <= end <= 1:
            raise RequestError(f"guidance_interval is {start, end}; it must be two shares with 0 <= start <= end <= 1")


@dataclass(frozen=True, kw_only=True)
class ImageToImage(TextToImage):
    """Begins with a given picture in noise instead of noise alone."""

    strength: float = 0.75  # share of the noise: 0 = the picture as it is, 1 = nothing of it
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
class Outpaint(Inpaint):
    """Draws on beyond the edges of a given picture."""

    left: int = 0  # pixels to add
    right: int = 0
    up: int = 0
    down: int = 0


# Every kind of request, by the name that a record calls it.
REQUESTS: Mapping[str, type[TextToImage]] = {
    kind.__name__: kind for kind in (TextToImage, ImageToImage, Inpaint, Outpaint)
}
