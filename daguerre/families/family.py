"""What tells one model family from another, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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


def pooled_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """The pooled text alone."""
    return pooled


def size_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """SDXL's micro-conditioning (arXiv:2307.01952, section 2.2): original size, crop corner, target size."""
    height_width = [request.height, request.width]
    return _features(pooled, [*height_width, 0, 0, *height_width], width)


def aesthetic_vector(pooled: Tensor, request: TextToImage, width: int, negative: bool) -> Tensor:
    """The refiner's: original size, crop corner, and the aesthetic score it was trained to imitate."""
    return _features(pooled, [request.height, request.width, 0, 0, 2.5 if negative else 6.0], width)


def _features(pooled: Tensor, numbers: list[float], width: int) -> Tensor:
    each = (width - pooled.shape[1]) // len(numbers)
    values = torch.tensor(numbers, device=pooled.device)
    return torch.cat([pooled, sinusoid(values, each).flatten()[None].to(pooled.dtype)], dim=1)
