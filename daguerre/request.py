"""What a user can ask for. The command line, the record inside a picture and the library share these types."""

from dataclasses import dataclass
from typing import Literal, get_args

RANDOM_SEED = -1
MAX_SEED = 2**32 - 1
MAX_PROMPT = 20_000  # characters
Emphasis = Literal["original", "no norm", "ignore", "none"]
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

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise RequestError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
            if type(getattr(type(self), name)) is int and value != int(value):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
        for name in ("width", "height"):
            if getattr(self, name) % 8:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be a multiple of 8")
        for name in ("prompt", "negative_prompt", "sampler", "schedule"):
            if not isinstance(getattr(self, name), str) or len(getattr(self, name)) > MAX_PROMPT:
                raise RequestError(f"{name} must be a text of at most {MAX_PROMPT} characters")
        if self.emphasis not in get_args(Emphasis):
            raise RequestError(f"emphasis is {self.emphasis!r}; choose one of {', '.join(get_args(Emphasis))}")
        start, end = self.guidance_interval
        if not 0 <= start <= end <= 1:
            raise RequestError(f"guidance_interval is {start, end}; it must be two shares with 0 <= start <= end <= 1")
