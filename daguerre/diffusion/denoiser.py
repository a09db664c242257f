"""The contract between networks and samplers: a Denoiser estimates the clean latents in noisy ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..request import RequestError


class Cond(NamedTuple):
    """What steers a denoiser."""

    tokens: Tensor  # (B, T, D) text features for cross-attention
    vector: Tensor | None = None  # (B, V) pooled text and size embedding
    concat: Tensor | None = None  # (B, C, H, W) channels beside the latents: inpainting and editing networks
    side: Tensor | None = None  # (B,) 1 = positive, 0 = negative, for networks that something steers on one side


class Denoiser(Protocol):
    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """Noisy latents (B, C, H, W) at noise level sigma, scalar or (B,) -> estimate of clean latents."""


class Process(Protocol):
    """How noise is mixed in: x = alpha(sigma) * x0 + sigma * noise."""

    def alpha(self, sigma: Tensor) -> Tensor: ...


# Standard normal noise (B, C, H, W) for the way from one noise level to another.
NoiseSource = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    i: int  # 0-based
    sigma: Tensor  # the noise level the step started from
    x: Tensor  # the state after the step
    x0: Tensor  # the estimate the step was made with: a free preview


Steps = Iterator[Step]


class Sampler(Protocol):
    """A generator function over steps: progress, preview and cancel are the caller iterating or stopping."""

    def __call__(
        self, denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource
    ) -> Steps: ...


def spread(value: Tensor, x: Tensor) -> Tensor:
    """A scalar, on any device, or per-picture values (B,), shaped to broadcast over x."""
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


@dataclass(frozen=True)
class VarianceExploding:
    """Stable Diffusion in the scale of arXiv:2206.00364; sigma from 0 to 14.6."""

    def alpha(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class RectifiedFlow:
    """arXiv:2209.03003; sigma from 0 to 1."""

    def alpha(self, sigma: Tensor) -> Tensor:
        return 1 - sigma


def renewal(process: Process, a: Tensor, b: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Old and new noise (down, up) to make up level b after a, with b^2 in all: arXiv:2010.02502, eq. 16."""
    up = eta * b * (1 - (b * process.alpha(a) / (a * process.alpha(b))) ** 2).sqrt()
    return (b**2 - up**2).sqrt(), up


def noised(process: Process, x: Tensor, a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
    """The state x at level a with as much new noise as brings it up to level b: arXiv:2306.14878, section 3."""
    share = process.alpha(b) / process.alpha(a)
    return share * x + (b**2 - (share * a) ** 2).sqrt() * noise


def with_negative(denoise: Denoiser, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
    """The guided estimate, and the one under the negative condition that it was guided away from.

    Asks the denoiser's method of this name, or else `estimates` and `scale`, as classifier-free guidance has them.
    Raises RequestError where there is neither.
    """
    if own := getattr(denoise, "with_negative", None):
        guided, negative = own(x, sigma, cond)
        return guided, negative
    if not (hasattr(denoise, "estimates") and hasattr(denoise, "scale")):
        raise RequestError(
            f"CFG++ samplers go by the negative prompt's own estimate, which {type(denoise).__name__} does not tell; "
            "take a sampler without CFG++ in its name, or leave out what is set round plain guidance"
        )
    positive, negative = denoise.estimates(x, sigma, cond)
    return negative + denoise.scale * (positive - negative), negative
