"""Linear multistep methods: a step along the weighted slopes (x - x0) / sigma of the steps before."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps
from .ddim import unit_variance
from .euler import heun
from .weights import adams

# The noise levels of the last slopes, newest last, and the next one -> weights of the slopes, newest last, in the step
Weights = Callable[[Tensor], list[float]]
BASHFORTH = ((1.0,), (-1 / 2, 3 / 2), (5 / 12, -16 / 12, 23 / 12), (-9 / 24, 37 / 24, -59 / 24, 55 / 24))
EXTRAPOLATION = ((1.0,), (-1.0, 2.0))  # gradient estimation with gamma = 2


def even(levels: Tensor, table: tuple[tuple[float, ...], ...] = BASHFORTH) -> list[float]:
    """As if the levels were evenly spaced."""
    step = float(levels[-1] - levels[-2])
    return [step * weight for weight in table[len(levels) - 2]]


def in_sigma(levels: Tensor) -> list[float]:
    """By the polynomial in sigma."""
    *known, end = (levels - levels[-2]).tolist()
    return adams(known, end)


def in_log_sigma(levels: Tensor) -> list[float]:
    """By the polynomial in log(sigma), of which sigma is the exponential."""
    *known, end = (levels / levels[-2]).log().tolist()
    return [float(levels[-1]) * weight for weight in adams(known, end, growth=1.0)]


def along_slopes(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    order: int,
    weights: Weights,
    ends: bool = True,
    averaged: bool = False,
) -> Steps:
    """A linear multistep method up to this order.

    With `ends`, a last step to 0 takes the clean estimate itself; with `averaged`, the first step is Heun's, if it is
    not the only one, whose slope at the end would be that of noise.
    """
    slopes: list[Tensor] = []
    levels = sigmas.double()
    for i, (a, b) in enumerate(pairwise(sigmas)):
        if averaged and i == 0 and len(sigmas) > 2:
            step = next(heun(denoise, x, sigmas[:2], cond, process, noise))
            slopes, x = [(x - step.x0) / a], step.x
            yield step
            continue
        x0 = denoise(x, a, cond)
        slopes = [*slopes, (x - x0) / a][-order:]
        if ends and b == 0:
            x = x0
        else:
            for weight, slope in zip(weights(levels[i + 1 - len(slopes) : i + 2]), slopes, strict=True):
                x = x + weight * slope
        yield Step(i, a, x, x0)


def plms(denoise: Denoiser, x: Tensor, sigmas: Tensor, cond: Cond, process: Process, noise: NoiseSource) -> Steps:
    """Pseudo linear multistep, arXiv:2202.09778, begun as Stable Diffusion's first release did; x in DDIM's scale."""
    steps = along_slopes(denoise, x, sigmas, cond, process, noise, 4, even, averaged=True)
    return unit_variance(steps, sigmas, process)


lms = partial(along_slopes, order=4, weights=in_sigma, ends=False)
ipndm = partial(along_slopes, order=4, weights=even)
ipndm_v = partial(along_slopes, order=4, weights=in_sigma)
deis = partial(along_slopes, order=3, weights=in_log_sigma)
gradient_estimation = partial(along_slopes, order=2, weights=partial(even, table=EXTRAPOLATION))
