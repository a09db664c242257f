"""How noise is mixed in: x = alpha(sigma) * x0 + sigma * noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Process


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
