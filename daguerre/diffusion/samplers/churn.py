"""Churn: new noise before a step of a deterministic sampler, as arXiv:2206.00364, algorithm 2, adds it."""

import math
from dataclasses import dataclass

from torch import Tensor

from ...request import RequestError
from ..denoiser import NoiseSource, Process, VarianceExploding, noised


@dataclass(frozen=True)
class Churn:
    """How much noise is renewed, in the paper's terms; the default is none."""

    s_churn: float = 0.0  # over all steps
    s_tmin: float = 0.0  # the noise levels that are churned
    s_tmax: float = math.inf
    s_noise: float = 1.0  # standard deviation of what is added

    def __call__(self, process: Process, x: Tensor, a: Tensor, steps: int, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        """The state x at level a, and that level, after lines 4 to 6 of a sampler of so many steps."""
        if self.s_churn == 0:
            return x, a
        if not isinstance(process, VarianceExploding):
            raise RequestError("s_churn does not work for flow models; leave it at 0")
        higher = a * (1 + min(self.s_churn / steps, math.sqrt(2) - 1))
        new = self.s_noise * noise(a, higher)  # drawn outside of the range too, so that it moves no later draw
        return (noised(process, x, a, higher, new), higher) if self.s_tmin <= a <= self.s_tmax else (x, a)


STILL = Churn()
