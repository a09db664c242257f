"""Restart: down, up again by new noise, and down once more."""

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Steps, noised
from ..schedule import NoiseLevels, karras
from .euler import heun

LOW, HIGH = 0.1, 2.0  # between the levels nearest to these it restarts


def restarted(sigmas: Tensor) -> list[Tensor]:
    """The ways down that n steps are spent on: with 20 steps and more one restart, with 36 and more two."""
    n = len(sigmas) - 1
    if n < 20 or sigmas[-1] > 0:
        return [sigmas]
    steps, times = (n // 4, 2) if n >= 36 else (9, 1)
    sigmas = karras(NoiseLevels(sigmas[[-2, 0]]), n - steps * times)
    low, high = (int((sigmas - level).abs().argmin()) for level in (LOW, HIGH))
    if high >= low:
        return [sigmas]
    again = karras(NoiseLevels(sigmas[[low, high]]), steps + 1)[:-1]
    again[[0, -1]] = sigmas[[high, low]]  # to the bit
    return [sigmas[: low + 1], *[again] * times, sigmas[low:]]


def restart(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, s_noise: float = 1.0
) -> Steps:
    """arXiv:2306.14878, algorithm 1, with Heun's method; its levels are Karras's between the first and last given."""
    i, here = 0, sigmas[0]
    for walk in restarted(sigmas):
        if walk[0] > here:
            x = noised(process, x, here, walk[0], s_noise * noise(here, walk[0]))
        for step in heun(denoise, x, walk, cond, process, noise):
            x = step.x
            yield step._replace(i=i)
            i += 1
        here = walk[-1]
