"""Singlestep DPM-Solvers, arXiv:2206.00927, that walk down in steps of their own.

Of the noise levels given they take the first one and the last above 0, where they end. alpha = 1.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal

Slope = Callable[[Tensor, Tensor], Tensor]  # of the state x at a noise level


def first(x: Tensor, a: Tensor, b: Tensor, slope: Tensor) -> Tensor:
    """DPM-Solver-1: Euler's step."""
    return x + (b - a) * slope


def second(x: Tensor, a: Tensor, b: Tensor, slope: Tensor, at: Slope, r: float) -> tuple[Tensor, Tensor]:
    """DPM-Solver-2, algorithm 4, and the slope that it saw on its way, at share r of the step in log(sigma)."""
    s = a * (b / a) ** r
    there = at(first(x, a, s, slope), s)
    return x + (b - a) * (slope + (there - slope) / (2 * r)), there


def third(x: Tensor, a: Tensor, b: Tensor, slope: Tensor, at: Slope, there: Tensor) -> Tensor:
    """DPM-Solver-3, algorithm 5 with r1 = 1/3, where the slope is `there`, and r2 = 2/3."""

    def bend(s: Tensor) -> Tensor:  # sigma * (expm1(h) / h - 1)
        return (a - s) / (a / s).log() - s

    s = a * (b / a) ** (2 / 3)
    further = at(x + (s - a) * slope - 2 * bend(s) * (there - slope), s)
    return x + (b - a) * slope - 1.5 * bend(b) * (further - slope)


def dpm_fast(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """DPM-Solver-fast, section 3.4: as many calls as there are steps given, in steps of three, two and one."""
    calls, high, low = len(sigmas) - 1, sigmas[0], sigmas[sigmas > 0][-1]
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    levels = torch.linspace(high.log().item(), low.log().item(), len(orders) + 1, dtype=torch.float64).exp()

    def at(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoise(x, sigma.float(), cond)) / sigma

    for i, (order, (a, b)) in enumerate(zip(orders, pairwise(levels), strict=True)):
        down, up = lowered(process, a, b, eta, low)
        slope = at(x, a)
        x0 = x - a * slope
        if order == 1:
            x = first(x, a, down, slope)
        elif order == 2:
            x, _ = second(x, a, down, slope, at, 1 / 2)
        else:
            _, there = second(x, a, down, slope, at, 1 / 3)
            x = third(x, a, down, slope, at, there)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a.float(), x, x0)


def lowered(process: Process, a: Tensor, b: Tensor, eta: float, low: Tensor) -> tuple[Tensor, Tensor]:
    """Old and new noise to make up level b after a, the old one never under the level `low` where the walk ends."""
    down, _ = renewal(process, a, b, eta)
    down = down.maximum(low)
    return down, (b**2 - down**2).clamp(min=0).sqrt()


def dpm_adaptive(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
) -> Steps:
    """DPM-Solver-23, appendix C: steps as long as second and third order agree on; yields those that it takes.

    One length for all pictures of a batch. The next length is the last one times 1 + atan(error^(-1 / order) - 1).
    """
    a, low, h, i = sigmas[0].double(), sigmas[sigmas > 0][-1].double(), 0.05, 0
    before = x

    def at(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoise(x, sigma.float(), cond)) / sigma

    while (a / low).log() > 1e-5:
        b = (a * math.exp(-h)).maximum(low)
        down, up = lowered(process, a, b, eta, low)
        slope = at(x, a)
        coarse, there = second(x, a, down, slope, at, 1 / 3)
        fine = third(x, a, down, slope, at, there)
        scale = (rtol * coarse.abs().maximum(before.abs())).clamp(min=atol)
        error = ((coarse - fine) / scale).pow(2).mean().sqrt().item()
        factor = 1 + math.atan((error + 1e-8) ** (-1 / (1.5 if eta else 3)) - 1)
        h *= factor
        if factor < 0.81:
            continue
        x0, before = x - a * slope, coarse
        x = fine + up * s_noise * noise(a, b) if up > 0 else fine
        yield Step(i, a.float(), x, x0)
        a, i = b, i + 1
