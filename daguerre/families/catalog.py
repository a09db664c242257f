"""Every model family that daguerre knows, one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion.schedule import SCHEDULES
from ..models.unet import sinusoid
from ..request import TextToImage
from ..text.embed import Encoding

# (pooled text (1, P), request, width of the network's vector, whether for the negative prompt) -> (1, width)
VectorOf = Callable[[Tensor, TextToImage, int, bool], Tensor]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One row of the catalog. What a checkpoint's own shapes and settings tell is not repeated here."""

    name: str
    title: str
    encodings: tuple[Encoding, ...]  # how each text encoder's states are read, in the order of the tokens' features
    defaults: Mapping[str, Any] = field(default_factory=dict)  # request fields that differ from TextToImage's own
    vector: VectorOf | None = None
    zero_empty_negative: bool = False  # an empty negative prompt is all zeros, as trained (SDXL)
    schedules: Mapping[str, str] = field(default_factory=dict)  # its own for some general ones, by their names


def pooled_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """The pooled text alone."""
    return pooled


def size_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """SDXL's micro-conditioning (arXiv:2307.01952, section 2.2): original size, crop corner, target size."""
    height_width = [request.height, request.width]
    return features(pooled, [*height_width, 0, 0, *height_width], width)


def aesthetic_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """The refiner's: original size, crop corner, and the aesthetic score it was trained to imitate."""
    return features(pooled, [request.height, request.width, 0, 0, 2.5 if negative else 6.0], width)


def features(pooled: Tensor, numbers: list[float], width: int) -> Tensor:
    """Pooled text (1, P) and the sinusoids of some numbers, `width` in all."""
    each = (width - pooled.shape[1]) // len(numbers)
    values = torch.tensor(numbers, device=pooled.device)
    return torch.cat([pooled, sinusoid(values, each).flatten()[None].to(pooled.dtype)], dim=1)


SD1 = Family(name="sd1", title="Stable Diffusion 1.x", encodings=(Encoding(),))
SD2 = Family(name="sd2", title="Stable Diffusion 2.x", encodings=(Encoding(pad=0),))
SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    encodings=(Encoding(skip=2, final_norm=False, fixed=True), Encoding(skip=2, final_norm=False, pad=0, fixed=True)),
    vector=size_vector,
    zero_empty_negative=True,
    schedules={name: f"{name}_xl" for name in SCHEDULES if f"{name}_xl" in SCHEDULES},
    defaults={"width": 1024, "height": 1024},
)
TINTYPE = replace(
    SD1,
    name="tintype",
    title="tintype, the built-in model",
    vector=pooled_vector,
    defaults={"width": 128, "height": 128, "sampler": "DPM++ 2M", "cfg_scale": 4.0},
)
REFINER = replace(
    SDXL, name="sdxl-refiner", title="SDXL refiner", encodings=SDXL.encodings[1:], vector=aesthetic_vector
)
TASKS = {"inpaint": "inpainting", "edit": "editing by instruction", "turbo": "few steps"}


def _rows(base: Family) -> list[Family]:
    """A family, and what it is trained for besides."""
    tasks = [replace(base, name=f"{base.name}-{task}", title=f"{base.title}, {what}") for task, what in TASKS.items()]
    return [base, *tasks[:2], distilled(tasks[2], sampler="LCM")]


def distilled(family: Family, steps: int = 1, **defaults: Any) -> Family:
    """A family that draws in few steps without guidance (arXiv:2311.17042), at the noise levels it was distilled at."""
    defaults = {**family.defaults, "steps": steps, "cfg_scale": 1.0, **defaults}
    return replace(family, defaults=defaults, schedules={**family.schedules, "automatic": "turbo"})


SDXL_TURBO = distilled(replace(SDXL, name="turbo", title="Stable Diffusion XL Turbo", defaults={}))  # 512 x 512
_ALL = *_rows(SD1), *_rows(SD2), *_rows(SDXL)[:3], SDXL_TURBO, REFINER, *_rows(TINTYPE)
FAMILIES = {family.name: family for family in _ALL}
