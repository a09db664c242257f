"""The contract between networks and samplers: a Denoiser estimates the clean latents in noisy ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Cond(NamedTuple):
    """What steers a denoiser."""

    tokens: Tensor  # (B, T, D) text features for cross-attention
    vector: Tensor | None = None  # (B, V) pooled text and size embedding
    concat: Tensor | None = None  # (B, C, H, W) channels beside the latents: inpainting and editing networks


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
