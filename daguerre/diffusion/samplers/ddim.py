"""DDIM, and samplers that go by way of the clean estimate and new noise."""

from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, noised
from ..schedule import NoiseLevels, scaled_linear
from .euler import euler_ancestral


def unit_variance(steps: Steps, sigmas: Tensor, process: Process) -> Steps:
    """The states in the scale of arXiv:2010.02502: alpha^2 + sigma^2 = 1."""
    for step, b in zip(steps, sigmas[1:], strict=True):
        yield step._replace(x=step.x / (process.alpha(b) ** 2 + b**2).sqrt())


def ddim(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 0.0
) -> Steps:
    """arXiv:2010.02502, equation 12, yielding x in the paper's scale."""
    return unit_variance(euler_ancestral(denoise, x, sigmas, cond, process, noise, eta), sigmas, process)


def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource) -> Steps:
    """Multistep consistency sampling: arXiv:2303.01469, algorithm 1; of latents: arXiv:2310.04378."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        x = process.alpha(b) * x0 + b * noise(a, b) if b > 0 else x0
        yield Step(i, a, x, x0)


def tcd(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 0.3,
    levels: NoiseLevels | None = None,
) -> Steps:
    """Strategic stochastic sampling: arXiv:2402.19159, algorithm 4, with eta for gamma; x in the scale of DDIM.

    It goes to (1 - eta) times the next timestep, of those that `levels` counts, and from there up to the next level.
    """
    levels = levels or scaled_linear()

    def walk(x: Tensor) -> Steps:
        for i, (a, b) in enumerate(pairwise(sigmas)):
            x0 = denoise(x, a, cond)
            s = levels.sigma(((1 - eta) * levels.timestep(b).round()).floor()).minimum(b)
            x = x0 + s / a * (x - x0)
            x = noised(process, x, s, b, noise(a, b)) if s < b else x
            yield Step(i, a, x, x0)

    return unit_variance(walk(x), sigmas, process)
