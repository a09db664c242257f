"""Guidance by a negative condition, and in a part of the noise levels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Cond, Denoiser, with_negative


@dataclass(frozen=True)
class ClassifierFree:
    """Away from the negative condition: arXiv:2207.12598, equation 6, with scale = 1 + w."""

    inner: Denoiser
    negative: Cond
    scale: float  # 1 = the bare inner denoiser
    batched: bool = True  # both conditions in one call of 2B pictures; False needs half the memory

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        if self.scale == 1:
            return self.positive(x, sigma, cond)
        positive, negative = self.estimates(x, sigma, cond)
        return negative + self.scale * (positive - negative)

    def positive(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """Under the positive condition alone."""
        return self.inner(x, sigma, cond)

    def estimates(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Under the positive and the negative condition; in two calls where their shapes differ."""
        pairs = list(zip(cond, self.negative, strict=True))
        if not self.batched or any(getattr(a, "shape", None) != getattr(b, "shape", None) for a, b in pairs):
            return self.inner(x, sigma, cond), self.inner(x, sigma, self.negative)
        both = Cond._make(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)
        sigma = sigma.repeat(2) if sigma.ndim else sigma
        positive, negative = self.inner(torch.cat([x, x]), sigma, both).chunk(2)
        return positive, negative


@dataclass(frozen=True)
class Interval:
    """Guided at noise levels in [low, high] only: arXiv:2404.07724."""

    guided: Denoiser
    bare: Denoiser
    low: float
    high: float

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return self.guided(x, sigma, cond) if self._inside(sigma) else self.bare(x, sigma, cond)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """As `denoiser.with_negative`; outside of the interval nothing is guided away from: twice the bare estimate.

        CFG++ goes towards the one along the noise that the other tells, and so takes plain steps there.
        """
        if self._inside(sigma):
            return with_negative(self.guided, x, sigma, cond)
        bare = self.bare(x, sigma, cond)
        return bare, bare

    def _inside(self, sigma: Tensor) -> bool:
        return bool(((self.low <= sigma) & (sigma <= self.high)).all())
