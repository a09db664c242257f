"""DPM-Solver++ (arXiv:2211.01095): steps in lambda = log(alpha / sigma) that are exact for a constant x0."""

from functools import partial
from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, Process, Step, Steps
from ..denoiser import NoiseSource as Noise
from ..process import renewal


def dpmpp_2s_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: Noise, eta: float = 1.0
) -> Steps:
    """Algorithm 1, DPM-Solver++(2S) with r = 1/2, to below the next level, then new noise; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        down, up = renewal(process, a, b, eta)
        if down > 0:
            middle = (a * down).sqrt()
            estimate = denoise(x0 + middle / a * (x - x0), middle, cond)
        x = estimate + down / a * (x - estimate)
        x = x + up * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def dpmpp_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: Noise, eta: float = 1.0
) -> Steps:
    """DPM-Solver++(2S) with r = 1/2 and new noise in both stages; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        if b > 0:
            middle = (a * b).sqrt()
            down, up = renewal(process, a, middle, eta)
            estimate = denoise(x0 + down / a * (x - x0) + up * noise(a, middle), middle, cond)
        down, up = renewal(process, a, b, eta)
        x = estimate + down / a * (x - estimate)
        x = x + up * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: Noise, eta: float = 1.0
) -> Steps:
    """SDE-DPM-Solver++(2M), by the midpoint rule."""
    last = h_last = None
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        ratio = b * process.alpha(a) / (a * process.alpha(b))  # exp(-h)
        h = -ratio.log()
        if last is not None and b > 0:
            estimate = x0 + h / h_last / 2 * (x0 - last)
        down, up = b * ratio**eta, b * (1 - ratio ** (2 * eta)).sqrt()
        x = process.alpha(b) * estimate + down * (x - process.alpha(a) * estimate) / a
        x = x + up * noise(a, b) if up > 0 else x
        last, h_last = x0, h
        yield Step(i, a, x, x0)


dpmpp_2m = partial(dpmpp_2m_sde, eta=0.0)  # algorithm 2, DPM-Solver++(2M)
