"""Guides that change the two estimates before they are set against each other."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Cond, Denoiser, spread

Coefficient = Callable[[Tensor], Tensor]  # sigma -> c_skip: a network's output is proportional to x0 - c_skip * x


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each picture's values (B, C, H, W), in double precision -> (B, 1, 1, 1)."""
    return (a.double() * b.double()).sum(tuple(range(1, a.ndim)), keepdim=True)


class AdaptiveProjected:
    """Adaptive projected guidance (arXiv:2410.02416, algorithm 1), without the over-saturation of high scales.

    The difference d of the estimates of x0 gets a (negative) momentum, d <- d + momentum * last d, and a largest
    length; then the part along the positive estimate is weighed by eta. eta = 1 with no threshold and no momentum
    is plain guidance.
    """

    def __init__(self, eta: float, threshold: float, momentum: float):
        self.eta = eta  # 0 = only what is perpendicular to the positive estimate
        self.threshold = threshold  # of the length of d; 0 = none
        self.momentum = momentum
        self.last: Tensor | float = 0.0

    def __call__(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        difference = positive - negative
        update = self.last = difference + self.momentum * self.last if self.momentum else difference
        if self.threshold > 0:
            update = update * (self.threshold / dot(update, update).sqrt()).clamp(max=1).to(x.dtype)
        if self.eta != 1:
            along = dot(update, positive) / dot(positive, positive).clamp_min(1e-24) * positive
            update = update - (1 - self.eta) * along.to(x.dtype)
        return positive, negative + (difference - update)


@dataclass(frozen=True)
class ZeroStar:
    """CFG-Zero* (arXiv:2503.18886): the negative output scaled to lie as near to the positive as it can."""

    c_skip: Coefficient

    def __call__(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        skip = spread(self.c_skip(sigma), x) * x
        p, n = positive - skip, negative - skip
        share = dot(p, n) / dot(n, n).clamp_min(1e-24)
        return positive, skip + share.to(x.dtype) * n


@dataclass(frozen=True)
class Tangential:
    """Tangential damping (arXiv:2503.18137): of the negative output, what the two outputs share most.

    It is projected onto the first right singular vector of both.
    """

    c_skip: Coefficient

    def __call__(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        skip = spread(self.c_skip(sigma), x) * x
        outputs = torch.stack([positive - skip, negative - skip], dim=1).flatten(2).double()  # (B, 2, N)
        _, turned = torch.linalg.eigh(outputs @ outputs.transpose(1, 2))  # (B, 2, 2), the largest value's vector last
        direction = turned[:, :, -1:].transpose(1, 2) @ outputs  # (B, 1, N): along the singular vector
        length = direction.square().sum(-1, keepdim=True).clamp_min(1e-24)
        damped = (outputs[:, 1:] * direction).sum(-1, keepdim=True) / length * direction
        return positive, skip + damped.reshape(x.shape).to(x.dtype)


@dataclass(frozen=True)
class Perpendicular:
    """Perp-Neg (arXiv:2304.04968): a negative prompt cannot take away what the prompt asks for.

    With n and p as the ways from the empty prompt to the negative and the positive one, the guidance leads from the
    empty prompt along p - scale * (n without its part along p). One more call of the network.
    """

    inner: Denoiser
    empty: Cond
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        empty = self.inner(x, sigma, self.empty)
        p, n = positive - empty, negative - empty
        across = n - (dot(n, p) / dot(p, p).clamp_min(1e-24)).to(x.dtype) * p
        return positive - self.scale * across, empty
