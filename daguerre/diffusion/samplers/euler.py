"""Samplers along (x - x0) / sigma: the slope of variance exploding and of rectified flow alike."""

from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal
from .churn import STILL, Churn


def euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, churn: Churn = STILL
) -> Steps:
    """arXiv:2206.00364, algorithm 2 without lines 9 to 11."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x, hat = churn(process, x, a, len(sigmas) - 1, noise)
        x0 = denoise(x, hat, cond)
        x = x + (b - hat) * (x - x0) / hat
        yield Step(i, a, x, x0)


def heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, churn: Churn = STILL
) -> Steps:
    """arXiv:2206.00364, algorithm 2; algorithm 1 without churn."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x, hat = churn(process, x, a, len(sigmas) - 1, noise)
        x0 = denoise(x, hat, cond)
        slope = (x - x0) / hat
        if b > 0:
            ahead = x + (b - hat) * slope
            slope = (slope + (ahead - denoise(ahead, b, cond)) / b) / 2
        x = x + (b - hat) * slope
        yield Step(i, a, x, x0)


def euler_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """Euler to below the next level, then new noise up to it: arXiv:2010.02502, equation 12; DDPM at eta 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        down, up = renewal(process, a, b, eta)
        x = process.alpha(b) * x0 + down * (x - process.alpha(a) * x0) / a
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)
