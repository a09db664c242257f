"""Samplers along (x - x0) / sigma: the slope of variance exploding and of rectified flow alike."""

from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal


def euler(denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource) -> Steps:
    """arXiv:2206.00364, algorithm 1 without lines 6 to 8."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        x = x + (b - a) * (x - x0) / a
        yield Step(i, a, x, x0)


def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource) -> Steps:
    """arXiv:2206.00364, algorithm 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        slope = (x - x0) / a
        if b > 0:
            ahead = x + (b - a) * slope
            slope = (slope + (ahead - denoise(ahead, b, cond)) / b) / 2
        x = x + (b - a) * slope
        yield Step(i, a, x, x0)


def euler_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 1.0
) -> Steps:
    """Euler to below the next level, then new noise up to it: arXiv:2010.02502, equation 12."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        down, up = renewal(process, a, b, eta)
        x = process.alpha(b) * x0 + down * (x - process.alpha(a) * x0) / a
        x = x + up * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)
