"""Regional prompts: each part of the picture by a prompt of its own, by blending what the network predicts.

The prediction is a mean of those under each prompt, weighed by masks: MultiDiffusion (arXiv:2302.08113), equation 5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...diffusion.denoiser import Cond
from ...provenance.record import UsedControl
from ...request import RequestError
from ..drawing import Drawing
from ..given import opaque
from ..masks import to_values
from ..window import Window
from .steering import Call, Inner, Steer, steered

HALVES = {"left": (0, 0, 1, 2), "right": (1, 0, 2, 2), "top": (0, 0, 2, 1), "bottom": (0, 1, 2, 2)}


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where a prompt holds."""

    mask: Image.Image | str  # white where it holds, of the picture's shape, gray a share; or a name of `HALVES`
    prompt: str
    weight: float = 1.0  # beside other regions in the same place


def half(name: str, size: tuple[int, int]) -> Image.Image:
    """The mask of the left, right, top or bottom half."""
    width, height = size
    x0, y0, x1, y1 = HALVES[name]
    mask = Image.new("L", size)
    mask.paste(255, (x0 * width // 2, y0 * height // 2, x1 * width // 2, y1 * height // 2))
    return mask


@dataclass(frozen=True, kw_only=True)
class Regions:
    """All regions of a drawing. The request's own prompt holds where there is none, and for a share everywhere."""

    regions: tuple[Region, ...]
    base: float = 0.0  # the share of the request's prompt, 0 to 1

    def __post_init__(self) -> None:
        if not self.regions:
            raise RequestError("there are no regions; give at least one")
        if not 0 <= self.base <= 1:
            raise RequestError(f"the base prompt's share is {self.base:g}; it must be a number from 0 to 1")
        if wrong := [region for region in self.regions if not 0 < region.weight <= 10]:
            raise RequestError(f"a region's weight is {wrong[0].weight:g}; it must be above 0 and at most 10")
        for region in self.regions:
            if isinstance(region.mask, str) and region.mask not in HALVES:
                raise RequestError(f"a region's mask is {region.mask!r}; give a picture, or {', '.join(HALVES)}")

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing with its regions. Raises RequestError for a mask of another shape, and for one that is empty."""
        masks = torch.cat([region.weight * _values(region, i, drawing) for i, region in enumerate(self.regions, 1)])
        conds = [_cond(drawing, region, i) for i, region in enumerate(self.regions, 1)]
        for region in self.regions:
            name, image = (region.mask, None) if isinstance(region.mask, str) else ("none", region.mask)
            told = UsedControl(
                kind="region", module=name, name=region.prompt, weight=region.weight, mode=f"base {self.base:g}"
            )
            steer = _blending(conds, masks, self.base) if region is self.regions[-1] else _nothing
            drawing = steered(drawing, steer, told, image)
        yield drawing


def shares(masks: Tensor, base: float, size: tuple[int, int]) -> Tensor:
    """How much each prompt counts at each place (1 + R, 1, h, w), the base prompt first; 1 in all.

    `masks` are (R, 1, H, W), of any weights. The base prompt fills what they leave open, and takes its own share.
    """
    small = F.adaptive_avg_pool2d(masks, size)
    regions = (1 - base) * small / small.sum(0, keepdim=True).clamp_min(1)
    return torch.cat([1 - regions.sum(0, keepdim=True), regions])


def _blending(conds: list[Cond], masks: Tensor, base: float) -> Steer:
    @cache
    def at(window: Window, height: int, width: int) -> Tensor:
        return shares(window.cut(masks), base, (height, width))

    def steer(inner: Inner, call: Call) -> Tensor:
        own = inner(call)
        positive = call.side > 0
        if not positive.any():
            return own
        weights = at(call.window, *call.x.shape[-2:]).to(own)
        blended = weights[0] * own[positive]
        for cond, weight in zip(conds, weights[1:], strict=True):
            if not weight.any():  # the window shows nothing of the region
                continue
            count = int(positive.sum())
            tokens = cond.tokens.expand(count, -1, -1)
            vector = None if cond.vector is None else cond.vector.expand(count, -1)
            there = call._replace(
                x=call.x[positive], t=call.t[positive], tokens=tokens, vector=vector, side=call.side[positive]
            )
            blended = blended + weight * inner(there)
        result = own.clone()
        result[positive] = blended
        return result

    return steer


def _nothing(inner: Inner, call: Call) -> Tensor:
    return inner(call)


def _values(region: Region, number: int, drawing: Drawing) -> Tensor:
    """(1, 1, H, W) in [0, 1]."""
    size = (drawing.crop or drawing.window).picture
    mask = half(region.mask, size) if isinstance(region.mask, str) else opaque(region.mask).convert("L")
    if mask.width * size[1] != mask.height * size[0]:  # a second pass is larger
        told = f"has {mask.width} x {mask.height} pixels and the picture {size[0]} x {size[1]}"
        raise RequestError(f"the mask of region {number} {told}; they must have the same shape")
    if not mask.getbbox():
        raise RequestError(f"the mask of region {number} is black everywhere: its prompt would hold nowhere")
    mask = mask.resize(size, Image.Resampling.BOX)
    if drawing.crop:
        mask = mask.crop(drawing.crop.box).resize(drawing.window.picture, Image.Resampling.BOX)
    return to_values(mask)


def _cond(drawing: Drawing, region: Region, number: int) -> Cond:
    plan = drawing.model.conditions(replace(drawing.request, prompt=region.prompt), drawing.conditions[-1].last)
    (cond, weight), *more = plan[0].positive
    if more or weight != 1 or any(c.positive[0][0] is not cond for c in plan):  # the negative prompt may change
        raise RequestError(f"the prompt of region {number} changes over the steps or joins parts by AND; it cannot")
    return cond
