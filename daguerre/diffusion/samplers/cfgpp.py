"""CFG++, arXiv:2406.08070: towards the guided estimate, but along the noise that the negative condition tells."""

from functools import partial
from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal, with_negative
from .ddim import unit_variance
from .weights import exact


def euler_ancestral_cfgpp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    share: float = 1.0,
) -> Steps:
    """Algorithm 2, and at eta > 0 new noise as in Euler a; `share` of the guidance scale is the paper's lambda."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        x0 = x0 if share == 1 else negative + share * (x0 - negative)
        down, up = renewal(process, a, b, eta)
        x = process.alpha(b) * x0 + down * (x - process.alpha(a) * negative) / a
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def ddim_cfgpp(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 0.0
) -> Steps:
    """Algorithm 2, yielding x in the scale of DDIM; a guidance scale of 12.5 counts as the paper's lambda = 1."""
    steps = euler_ancestral_cfgpp(denoise, x, sigmas, cond, process, noise, eta, share=1 / 12.5)
    return unit_variance(steps, sigmas, process)


def dpmpp_2s_ancestral_cfgpp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """DPM-Solver++(2S) whose state stands by its guidance from the negative estimate; alpha = 1."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        estimate = x0
        down, up = renewal(process, a, b, eta)
        guided = x + x0 - negative
        if down > 0:
            middle = (a * down).sqrt()
            estimate, _ = with_negative(denoise, x0 + middle / a * (guided - x0), middle, cond)
        x = estimate + down / a * (guided - estimate)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        yield Step(i, a, x, x0)


def dpmpp_2m_cfgpp(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource
) -> Steps:
    """DPM-Solver++(2M): the estimate moves on from the last negative one, as ComfyUI has it; alpha = 1."""
    last = h_last = None
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        h = (a / b).log()
        x = x0 + b / a * (x - negative)
        if last is not None and b > 0:
            x = x + (1 - b / a) * h / h_last / 2 * (x0 - last)
        last, h_last = negative, h
        yield Step(i, a, x, x0)


def res_multistep_ancestral_cfgpp(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Steps:
    """The refined exponential solver of second order by negative estimates, as ComfyUI has it; alpha = 1."""
    last, h_last = None, 0.0
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        down, up = renewal(process, a, b, eta)
        h = float((a / down).log())
        if last is None or down == 0:
            x = x0 + down / a * (x - negative)
        else:
            estimate = negative + h / h_last * exact(h) * (negative - last)
            x = estimate + down / a * (x + x0 - negative - estimate)
        x = x + up * s_noise * noise(a, b) if up > 0 else x
        last, h_last = negative, h
        yield Step(i, a, x, x0)


def gradient_estimation_cfgpp(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource
) -> Steps:
    """Gradient estimation with gamma = 2, openreview o2ND9v0CeK, along the negative estimate's slopes."""
    last = None
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        slope = (x - process.alpha(a) * negative) / a
        x = process.alpha(b) * x0 + b * slope
        x = x + (b - a) * (slope - last) if last is not None and b > 0 else x
        last = slope
        yield Step(i, a, x, x0)


def ud10_ab_cfgpp(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource
) -> Steps:
    """Algorithm 2 with a memory, by ComfyUI's weights.

    A tenth of its change leads the negative slope on, a quarter of each step is Adams and Bashforth's of second order,
    and the end is where the line through the last two estimates meets noise level 0.
    """
    last = before = None  # of the last step: its estimate, slope and change; and the noise level that it began at
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0, negative = with_negative(denoise, x, a, cond)
        slope = (x - process.alpha(a) * negative) / a
        ratio = 0.0 if before is None else (b - a) / (a - before)
        led = slope if last is None else slope + 0.1 * ratio * (slope - last[1])
        change = (process.alpha(b) * x0 + b * led - x) / (b - a)
        if last is None:
            x = x + (b - a) * change
        elif b > 0:
            x = x + (b - a) * (change + 0.25 * ratio / 2 * (change - last[2]))
        else:
            x = x0 + ratio * (x0 - last[0])
        last, before = (x0, slope, change), a
        yield Step(i, a, x, x0)


euler_cfgpp = partial(euler_ancestral_cfgpp, eta=0.0)
res_multistep_cfgpp = partial(res_multistep_ancestral_cfgpp, eta=0.0)
