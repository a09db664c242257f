"""Samplers that look ahead within a step and remember nothing of the steps before. Their time is log(sigma)."""

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal
from .churn import STILL, Churn
from .weights import Rule, exact, midpoint


def dpm2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, churn: Churn = STILL
) -> Steps:
    """DPM-Solver-2, arXiv:2206.00927, algorithm 1: the slope in the geometric middle."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x, hat = churn(process, x, a, len(sigmas) - 1, noise)
        x0 = denoise(x, hat, cond)
        slope = (x - x0) / hat
        if b > 0:
            middle = (hat * b).sqrt()
            ahead = x + (middle - hat) * slope
            slope = (ahead - denoise(ahead, middle, cond)) / middle
        x = x + (b - hat) * slope
        yield Step(i, a, x, x0)


def dpm2_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """DPM-Solver-2 to below the next level, then new noise; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        slope = (x - x0) / a
        down, up = renewal(process, a, b, eta)
        if down > 0:
            middle = (a * down).sqrt()
            ahead = x + (middle - a) * slope
            slope = (ahead - denoise(ahead, middle, cond)) / middle
        x = x + (down - a) * slope
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def heunpp2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, churn: Churn = STILL
) -> Steps:
    """Heun++: the slopes here and at the next two levels, those ahead weighted by their noise level."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x, hat = churn(process, x, a, len(sigmas) - 1, noise)
        x0 = denoise(x, hat, cond)
        slopes, ahead, here, further = [(x - x0) / hat], x, hat, sigmas[i + 1 : -1][:2]
        for level in further:
            ahead, here = ahead + (level - here) * slopes[-1], level
            slopes.append((ahead - denoise(ahead, level, cond)) / level)
        shares = further / (len(slopes) * sigmas[0])
        slope = (1 - shares.sum()) * slopes[0]
        for share, later in zip(shares, slopes[1:], strict=True):
            slope = slope + share * later
        x = x + (b - hat) * slope
        yield Step(i, a, x, x0)


def dpmpp_2s_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """DPM-Solver++(2S), arXiv:2211.01095, algorithm 1 with r = 1/2, to below the next level; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        down, up = renewal(process, a, b, eta)
        if down > 0:
            middle = (a * down).sqrt()
            estimate = denoise(x0 + middle / a * (x - x0), middle, cond)
        x = estimate + down / a * (x - estimate)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def dpmpp_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """DPM-Solver++(2S) with r = 1/2 and new noise in both stages; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        if b > 0:
            middle = (a * b).sqrt()
            down, up = renewal(process, a, middle, eta)
            ahead = x0 + down / a * (x - x0)
            estimate = denoise(ahead + up * s_noise * noise(a, middle) if up > 0 else ahead, middle, cond)
        down, up = renewal(process, a, b, eta)
        x = estimate + down / a * (x - estimate)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def seeds(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    places: tuple[float, ...] = (1 / 3, 2 / 3),
    rule: Rule = exact,
) -> Steps:
    """SEEDS, arXiv:2305.14267, algorithms 2 and 3 for the clean estimate: stages at `places` of a step in log(sigma).

    All stages of a step lie on one path of noise. One stage at the end (1,) is Heun's method in log(sigma). alpha = 1.
    """
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = latest = denoise(x, a, cond)
        h, start, level, path = float((a / b).log()), x, a, torch.zeros(())
        before, stages = 0.0, (*places, 1.0) if b > 0 else ()
        x = x if stages else x0
        for n, place in enumerate(stages):
            k, fresh = (1 + eta) * place * h, eta * (place - before) * h
            here = b if place == 1 else a * (b / a) ** place
            if fresh > 0:
                path = math.exp(-fresh) * path + math.sqrt(-math.expm1(-2 * fresh)) * s_noise * noise(level, here)
            estimate = x0 + rule(k) * place / before * (latest - x0) if before else x0
            x = estimate + math.exp(-k) * (start - estimate) + here * path
            latest = denoise(x, here, cond) if n < len(places) else latest
            before, level = place, here
        yield Step(i, a, x, x0)


exp_heun = partial(seeds, eta=0.0, places=(1.0,))
exp_heun_sde = partial(seeds, places=(1.0,))
seeds_2 = partial(seeds, places=(0.5,), rule=midpoint)
