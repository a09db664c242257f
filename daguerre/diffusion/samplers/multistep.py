"""Samplers that remember the clean estimates of the steps before. Their time is lambda = log(alpha / sigma)."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal
from .weights import Array, Rule, exact, integral, midpoint


def dpmpp_2m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    rule: Rule = midpoint,
) -> Steps:
    """SDE-DPM-Solver++(2M), arXiv:2211.01095, section 4, by the midpoint rule or, with `exact`, Heun's."""
    last = h_last = None
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        ratio = b * process.alpha(a) / (a * process.alpha(b))  # exp(-h)
        h = -ratio.log()
        if last is not None and b > 0:
            estimate = x0 + h / h_last * rule((1 + eta) * float(h)) * (x0 - last)
        down, up = b * ratio**eta, b * (1 - ratio ** (2 * eta)).sqrt()
        x = process.alpha(b) * estimate + down * (x - process.alpha(a) * estimate) / a
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        last, h_last = x0, h
        yield Step(i, a, x, x0)


def dpmpp_3m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """SDE-DPM-Solver++(3M), as k-diffusion has it: a second difference of estimates, too; alpha = 1."""
    rates: list[tuple[Tensor, float]] = []  # the estimate's change per lambda over the last steps, and their lengths
    last: Tensor | None = None
    h_last = 0.0
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        h = float((a / b).log())
        k = (1 + eta) * h
        if last is not None:
            rates = [*rates[-1:], ((x0 - last) / h_last, h_last)]
        if rates and b > 0:
            share, change = exact(k), h * rates[-1][0]
            estimate = x0 + share * change
            if len(rates) == 2:
                (earlier, before), (_, latest) = rates
                bend = (change - h * earlier) * h / (latest + before)
                estimate = estimate + (share * latest / h - share / k - 0.5 / math.expm1(-k)) * bend
        x = estimate + math.exp(-k) * (x - estimate)
        x = x + b * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise * noise(a, b) if eta > 0 and b > 0 else x
        last, h_last = x0, h
        yield Step(i, a, x, x0)


def res_multistep_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """RES of second order, arXiv:2308.02157, to below the next level, then new noise; alpha = 1."""
    last, h_last = None, 0.0
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = estimate = denoise(x, a, cond)
        down, up = renewal(process, a, b, eta)
        h = float((a / down).log())
        if last is not None and b > 0:
            estimate = x0 + h / h_last * exact(h) * (x0 - last)
        x = estimate + down / a * (x - estimate)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        last, h_last = x0, h
        yield Step(i, a, x, x0)


def er_scale(sigma: Array) -> Array:
    """How strongly the extended SDE renews noise at a level: arXiv:2309.06169, the recommended noise scale."""
    scale: Array = sigma * (np.exp(sigma**0.3) + 10)
    return scale


def er_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, s_noise: float = 1.0
) -> Steps:
    """ER-SDE-Solver-3: arXiv:2309.06169, algorithm 3; alpha = 1."""
    levels, last, rate = sigmas.double().numpy(), None, None
    for i, (a, b) in enumerate(pairwise(levels)):
        x0 = denoise(x, sigmas[i], cond)
        if b == 0:
            x = x0
        else:
            r, there = float(er_scale(b) / er_scale(a)), float(er_scale(b))
            x = x0 + r * (x - x0)
            if last is not None:
                rate_last, rate = rate, (x0 - last) / (a - levels[i - 1])
                # Integrals over log(sigma), in which they are smooth.
                weight = integral(lambda t: np.exp(t) / er_scale(np.exp(t)), np.log(b), np.log(a))
                x = x + (b - a + weight * there) * rate
                if rate_last is not None:
                    weight = integral(
                        lambda t, a=a: np.exp(t) * (np.exp(t) - a) / er_scale(np.exp(t)), np.log(b), np.log(a)
                    )
                    x = x + ((b - a) ** 2 / 2 + weight * there) * 2 * (rate - rate_last) / (a - levels[i - 2])
            x = x + math.sqrt(max(0.0, b**2 - (a * r) ** 2)) * s_noise * noise(sigmas[i], sigmas[i + 1])
        last = x0
        yield Step(i, sigmas[i], x, x0)


dpmpp_2m = partial(dpmpp_2m_sde, eta=0.0)  # algorithm 2, DPM-Solver++(2M)
dpmpp_2m_sde_heun = partial(dpmpp_2m_sde, rule=exact)
res_multistep = partial(res_multistep_ancestral, eta=0.0)
