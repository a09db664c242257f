"""Guides that change the guided estimate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import spread
from .pairs import Coefficient

# How a number runs from its full value to its smallest, or back; share = 0 at the first step, 1 at the last.
COURSES: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "linear down": lambda share: 1 - share,
    "cosine down": lambda share: math.cos(share * math.pi / 2),
    "half cosine down": lambda share: math.cos(share),
    "linear up": lambda share: share,
    "cosine up": lambda share: 1 - math.cos(share * math.pi / 2),
    "half cosine up": lambda share: 1 - math.cos(share),
}


@dataclass(frozen=True)
class Course:
    """A number over the steps of a drawing."""

    full: float
    least: float = 0.0
    mode: str = "constant"  # one of COURSES

    def at(self, share: float) -> float:
        """Its value when this share of the steps is done."""
        return (
            self.full if self.mode == "constant" else self.least + (self.full - self.least) * COURSES[self.mode](share)
        )


@dataclass(frozen=True)
class Thresholded:
    """Dynamic thresholding for latents: the composition of a high scale in the range of values of a lower one.

    arXiv:2205.11487, section 2.3, clips pixels at a percentile; latents have no fixed range, so the widely used
    extension to web interfaces mimics that of a lower scale, in each channel: with t and m as the estimates guided by
    `scale` and by `mimic` less their means, q as the percentile of |t| and s = max(|m|),
    result = clip(t, -max(s, q), max(s, q)) / max(s, q) * s + mean of the first.
    """

    now: float  # the scale that the estimate was guided by
    scale: Course  # the scale that it shall be guided by
    mimic: Course
    percentile: float  # 1 = the largest value
    share: Callable[[Tensor], float]  # of the steps that are done at a noise level, 0 to 1

    def __call__(self, x: Tensor, sigma: Tensor, guided: Tensor, positive: Tensor, difference: Tensor) -> Tensor:
        share = self.share(sigma)
        wanted = guided + (self.scale.at(share) - self.now) * difference
        mimicked = guided + (self.mimic.at(share) - self.now) * difference
        t, m = (estimate.flatten(2) - estimate.flatten(2).mean(2, keepdim=True) for estimate in (wanted, mimicked))
        reference = m.abs().amax(2, keepdim=True)
        largest = torch.maximum(reference, torch.quantile(t.float().abs(), self.percentile, dim=2, keepdim=True))
        shrunk = t.clamp(-largest, largest) * (reference / largest.clamp_min(1e-12))
        return wanted + (shrunk - t).reshape(x.shape)


@dataclass(frozen=True)
class Rescale:
    """Guidance at the contrast of the positive prediction: arXiv:2305.08891, section 3.4."""

    share: float  # 0 = plain guidance, 1 = all of the contrast restored
    c_skip: Coefficient  # of the prediction: rescaled is its network's (x0 - c_skip * x) / c_out

    def __call__(self, x: Tensor, sigma: Tensor, guided: Tensor, positive: Tensor, difference: Tensor) -> Tensor:
        if self.share == 0:
            return guided
        skip, axes = spread(self.c_skip(sigma), x) * x, tuple(range(1, x.ndim))
        output = guided - skip
        ratio = (positive - skip).std(axes, keepdim=True) / output.std(axes, keepdim=True)
        return skip + output * (self.share * ratio + 1 - self.share)


@dataclass(frozen=True)
class ZeroAbove:
    """Zero-init (arXiv:2503.18886, section 4.2): no output of the network above a noise level."""

    level: float
    c_skip: Coefficient

    def __call__(self, x: Tensor, sigma: Tensor, guided: Tensor, positive: Tensor, difference: Tensor) -> Tensor:
        return spread(self.c_skip(sigma), x) * x if (sigma > self.level).all() else guided
