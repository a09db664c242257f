"""DDIM and what grew out of it: steps that are exact where the estimate of x0 stays constant.

DPM-Solver++ is arXiv:2211.01095; its time is lambda = log(alpha / sigma).
"""

from functools import partial
from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps, renewal
from .euler import euler_ancestral


def ddim(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 0.0
) -> Steps:
    """arXiv:2010.02502, equation 12, yielding x in the paper's scale: alpha^2 + sigma^2 = 1."""
    steps = euler_ancestral(denoise, x, sigmas, cond, process, noise, eta)
    for step, b in zip(steps, sigmas[1:], strict=True):
        yield step._replace(x=step.x / (process.alpha(b) ** 2 + b**2).sqrt())


def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource) -> Steps:
    """Multistep consistency sampling: arXiv:2303.01469, algorithm 1; of latents: arXiv:2310.04378."""
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, a, cond)
        x = process.alpha(b) * x0 + b * noise(a, b) if b > 0 else x0
        yield Step(i, a, x, x0)


def dpmpp_2s_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 1.0
) -> Steps:
    """DPM-Solver++(2S), algorithm 1 with r = 1/2, to below the next level, then new noise; alpha = 1."""
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
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 1.0
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
    denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource, eta: float = 1.0
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
