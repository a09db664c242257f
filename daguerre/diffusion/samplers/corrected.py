"""Multistep predictors whose every step is corrected by the next estimate. Their time is lambda = -log(sigma)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ..denoiser import Cond, Denoiser, NoiseSource, Process, Step, Steps
from ..schedule import NoiseLevels, scaled_linear
from .weights import Rule, adams, exact, midpoint

ORDER = 3  # of the predictor: estimates that it goes by; the corrector goes by one more


def bh1(k: float) -> float:
    """UniPC's B(h) = h, as a rule for two estimates; its B(h) = exp(h) - 1 is the midpoint rule."""
    return -k / 2 / math.expm1(-k)


def moved(x: Tensor, estimates: list[Tensor], nodes: list[float], h: float, k: float, rule: Rule) -> Tensor:
    """The state x after a step h, with estimates known at `nodes`, times from its start; no new noise yet."""
    if len(nodes) == 2:
        other = next(n for n, node in enumerate(nodes) if node != 0)
        share = -math.expm1(-k) * rule(k) * h / nodes[other]
        weights = [-math.expm1(-k) - share] * 2
        weights[other] = share
    else:
        weights = [k / h * weight for weight in adams(nodes, h, growth=k / h)]
    x = math.exp(-k) * x
    for weight, estimate in zip(weights, estimates[-len(nodes) :], strict=True):
        x = x + weight * estimate
    return x


def predictor_corrector(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    rule: Rule = exact,
    tau: Callable[[float], float] = lambda sigma: 0.0,
    spared: int = 0,
    twice: bool = False,
    s_noise: float = 1.0,
) -> Steps:
    """Stochastic exponential Adams methods, arXiv:2309.05019, algorithm 1, with data prediction; alpha = 1.

    tau: how much noise is renewed on the way to a noise level, 0 = none, 1 = as much as an SDE's; spared: estimates
    that the last steps do without, for stability; twice: estimates at the corrected state, too.
    """
    lambdas, n = (-sigmas.double().log()).tolist(), len(sigmas) - 1
    ahead, estimates, used, h, k = x, list[Tensor](), 0, 0.0, 0.0
    new = torch.zeros(())  # noise in the last step
    for i, (a, b) in enumerate(pairwise(sigmas)):
        x0 = denoise(ahead, a, cond)
        estimates = [*estimates[-ORDER:], x0]
        if i and (b > 0 or twice):
            used = min(used + 1, n - i) if spared else used + 1
            nodes = [at - lambdas[i - 1] for at in lambdas[i + 1 - used : i + 1]]
            x = moved(x, estimates, nodes, h, k, rule) + new
            if twice:
                estimates[-1] = denoise(x, a, cond)
        else:
            x = ahead
        if b > 0:
            used = max(1, min(ORDER, len(estimates), n - i - spared))
            h = lambdas[i + 1] - lambdas[i]
            k = (1 + tau(float(b)) ** 2) * h
            nodes = [at - lambdas[i] for at in lambdas[i + 1 - used : i + 1]]
            share = math.sqrt(-math.expm1(-2 * (k - h)))  # of the noise at b, that is new
            new = b * share * s_noise * noise(a, b) if share else torch.zeros(())
            ahead = moved(x, estimates, nodes, h, k, rule) + new
        else:
            ahead = estimates[-1]
        yield Step(i, a, ahead, estimates[-1])


def sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Cond,
    process: Process,
    noise: NoiseSource,
    eta: float = 1.0,
    s_noise: float = 1.0,
    levels: NoiseLevels | None = None,
    twice: bool = False,
) -> Steps:
    """SA-Solver, arXiv:2309.05019, with noise renewed in the middle three fifths of the timesteps of `levels`."""
    levels = levels or scaled_linear()
    low, high = levels.sigma(torch.tensor([0.2, 0.8]) * (len(levels.sigmas) - 1)).tolist()
    return predictor_corrector(
        denoise,
        x,
        sigmas,
        cond,
        process,
        noise,
        tau=lambda sigma: eta if low <= sigma <= high else 0.0,
        spared=1,
        twice=twice,
        s_noise=s_noise,
    )


sa_solver_pece = partial(sa_solver, twice=True)
unipc = partial(predictor_corrector, rule=bh1)  # arXiv:2302.04867, algorithm 1 and 2
unipc_bh2 = partial(predictor_corrector, rule=midpoint)
