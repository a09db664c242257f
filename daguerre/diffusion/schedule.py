"""The noise levels a network was trained on, and the ways to walk down them in n steps."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import torch
from torch import Tensor

from ..request import RequestError

T = TypeVar("T")
# Noise levels that were searched for: Align Your Steps (arXiv:2404.14507) for Stable Diffusion 1 and XL in 10 and 31
# steps, GITS (arXiv:2405.11326). A last step to 0 follows.
TABLES: dict[str, tuple[float, ...]] = {
    "align_your_steps": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "align_your_steps_xl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "align_your_steps_gits": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
    "align_your_steps_gits_xl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
    "align_your_steps_32": (
        14.615, 11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065, 3.5195609,
        3.13490466, 2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172, 1.61475335, 1.46540953,
        1.314849, 1.16642497, 1.03475547, 0.91573744, 0.80748169, 0.71202361, 0.621739, 0.53065202,
        0.4529096, 0.37491455, 0.27461819, 0.2011529, 0.14105873, 0.06682881, 0.03166121, 0.015,
    ),
    "align_your_steps_32_xl": (
        14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457,
        2.74396527, 2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443,
        0.80290886, 0.69660121, 0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517,
        0.26518925, 0.22326461, 0.17653877, 0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class NoiseLevels:
    """The ladder of a discrete-time model: rung t is the noise level that timestep t was trained at."""

    sigmas: Tensor  # (N,) float32, ascending

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level at timesteps in [0, N - 1]: linear in log sigma, exactly the rung at whole ones."""
        low, high = self.sigmas[t.floor().long()], self.sigmas[t.ceil().long()]
        return (low * (high / low) ** (t - t.floor())).float()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The inverse of `sigma`, clamped to the ladder; exactly a whole number on a rung."""
        ladder = self.sigmas.to(sigma.device)
        i = torch.searchsorted(ladder, sigma).clamp(1, len(ladder) - 1)
        # Logarithms of ratios, not differences: on a rung both are the same number.
        return i - 1 + ((sigma / ladder[i - 1]).log() / (ladder[i] / ladder[i - 1]).log()).clamp(0, 1)

    def between(self, low: float = 0.0, high: float = 0.0) -> "NoiseLevels":
        """With other ends than its own; 0 leaves an end as it is. Raises RequestError if nothing is between them."""
        if not low and not high:
            return self
        low, high = low or self.sigmas[0].item(), high or self.sigmas[-1].item()
        if low >= high:
            raise RequestError(f"the lowest noise level, {low:g}, is not below the highest, {high:g}; set others")
        inner = self.sigmas[(self.sigmas > low) & (self.sigmas < high)]
        return NoiseLevels(torch.cat([torch.tensor([low]), inner, torch.tensor([high])]))

    def zero_terminal(self) -> "NoiseLevels":
        """Stretched to end in pure noise: arXiv:2305.08891, algorithm 1, with sigma 4096 for infinity."""
        root = (1 + self.sigmas.double() ** 2).rsqrt()  # sqrt(alpha_bar)
        root = ((root - root[-1]) * root[0] / (root[0] - root[-1])).clamp(min=2**-12)
        return NoiseLevels((root**-2 - 1).sqrt().float())


def line(n: int, start: float, end: float) -> Tensor:
    """n numbers from start to end, float64."""
    return torch.linspace(start, end, n, dtype=torch.float64)


def scaled_linear(start: float = 0.00085, end: float = 0.012, n: int = 1000) -> NoiseLevels:
    """Stable Diffusion's ladder: sqrt(beta) is a line from sqrt(start) to sqrt(end)."""
    return NoiseLevels((1 / (1 - line(n, start**0.5, end**0.5) ** 2).cumprod(0) - 1).sqrt().float())


def ended(sigmas: Tensor) -> Tensor:
    """Noise levels in float32, and a 0 at their end."""
    return torch.cat([sigmas.float(), torch.zeros(1)])


def uniform(levels: NoiseLevels, n: int) -> Tensor:
    """Timesteps evenly from the last to 0: "linspace" spacing."""
    return ended(levels.sigma(line(n, len(levels.sigmas) - 1, 0)))


def ddim_uniform(levels: NoiseLevels, n: int) -> Tensor:
    """Every (N // n)-th timestep up from 1, or from 0 where that is too many: "leading" spacing.

    One step alone begins at the last timestep: as published it would at 1, where there is nothing left to draw.
    """
    if n == 1:
        return ended(levels.sigmas[-1:])
    t = torch.arange(n).flip(0) * (len(levels.sigmas) // n)
    return ended(levels.sigma(t + (t[0] + 1 < len(levels.sigmas))))


def karras(levels: NoiseLevels, n: int, rho: float = 7.0) -> Tensor:
    """Evenly in sigma^(1 / rho): arXiv:2206.00364, equation 5."""
    return ended(line(n, *levels.sigmas[[-1, 0]].double() ** (1 / rho)) ** rho)


def polyexponential(levels: NoiseLevels, n: int, rho: float = 1.0) -> Tensor:
    """log(sigma) as the rho-th power of a line: at 1 "exponential", above it more steps at low levels."""
    high, low = levels.sigmas[[-1, 0]].double().log()
    return ended((low + line(n, 1, 0) ** rho * (high - low)).exp())


def kl_optimal(levels: NoiseLevels, n: int) -> Tensor:
    """Evenly in arctan(sigma): arXiv:2404.14507, theorem 3.1, the optimum for Gaussian data of unit variance."""
    return ended(line(n, *levels.sigmas[[-1, 0]].double().atan()).tan())


def simple(levels: NoiseLevels, n: int) -> Tensor:
    """Every (N / n)-th rung down from the last, counted in whole rungs."""
    last = len(levels.sigmas) - 1
    return ended(levels.sigmas[[last - int(i * (last + 1) / n) for i in range(n)]])


def beta(levels: NoiseLevels, n: int, alpha: float = 0.6) -> Tensor:
    """Sigma at the quantiles of Beta(alpha, alpha), dense at both ends: arXiv:2407.12173 as A1111 reads it."""
    high, low = levels.sigmas[[-1, 0]].double()
    return ended(low + beta_quantile(line(n, 1, 0), alpha) * (high - low))


def beta_timesteps(levels: NoiseLevels, n: int, alpha: float = 0.6) -> Tensor:
    """Timesteps at the quantiles of Beta(alpha, alpha): arXiv:2407.12173, as ComfyUI's "beta" has it."""
    t = beta_quantile(1 - torch.arange(n, dtype=torch.float64) / n, alpha) * (len(levels.sigmas) - 1)
    whole = t.round()  # trained timesteps, unless there are too few for so many steps
    return ended(levels.sigma(whole if (whole.diff() < 0).all() else t))


def beta_quantile(p: Tensor, alpha: float) -> Tensor:
    """x where a share p of Beta(alpha, alpha) lies below it, by bisection of the distribution's power series."""
    whole = math.exp(2 * math.lgamma(alpha) - math.lgamma(2 * alpha))
    low, high, tail = torch.zeros_like(p), torch.full_like(p, 0.5), p.minimum(1 - p)
    for _ in range(60):
        x = (low + high) / 2
        term, total = torch.ones_like(x), torch.ones_like(x) / alpha
        for k in range(1, 60):
            term = term * x * (k - alpha) / k
            total = total + term / (alpha + k)
        below = x**alpha * total < tail * whole
        low, high = x.where(below, low), high.where(below, x)
    return low.where(p <= 0.5, 1 - low)


def linear_quadratic(levels: NoiseLevels, n: int, threshold: float = 0.025) -> Tensor:
    """Down by `threshold` of the last level in a line over half of the steps, then by a parabola: as in Mochi 1."""
    lines = n // 2
    i = torch.arange(n, dtype=torch.float64)
    if lines == 0:
        return ended(levels.sigmas[-1:])
    slope, rest = threshold / lines, n - lines
    bend = (1 - slope * n) / rest**2  # so that it begins as steep as the line was, and ends at 1
    done = slope * i + bend * (i - lines).clamp(min=0) ** 2
    return ended(levels.sigmas[-1] * (1 - done))


def laplace(levels: NoiseLevels, n: int, mean: float = 0.0, scale: float = 0.5) -> Tensor:
    """log(sigma) at even quantiles of a Laplace distribution between the ladder's ends: arXiv:2407.03297."""
    z = (levels.sigmas[[-1, 0]].double().log() - mean) / scale
    ends = torch.where(z < 0, z.exp() / 2, 1 - (-z).exp() / 2)
    p = line(n, *ends) - 0.5
    return ended((mean - scale * p.sign() * torch.log1p(-2 * p.abs())).exp())


def published(table: tuple[float, ...]) -> Callable[[NoiseLevels, int], Tensor]:
    """A schedule from an optimized one: where n differs, log(sigma) is interpolated."""

    def schedule(levels: NoiseLevels, n: int) -> Tensor:
        ladder = NoiseLevels(torch.tensor(table, dtype=torch.float64))
        return ended(ladder.sigma(line(n, 0, len(table) - 1)))

    return schedule


# n steps -> n + 1 noise levels (float32, on the CPU), descending, the last one 0.
SCHEDULES: Mapping[str, Callable[[NoiseLevels, int], Tensor]] = {
    "automatic": uniform,  # for samplers that no other suits better
    "uniform": uniform,
    "karras": karras,
    "exponential": lambda levels, n: ended(line(n, *levels.sigmas[[-1, 0]].double().log()).exp()),
    "polyexponential": polyexponential,
    "sgm_uniform": lambda levels, n: ended(levels.sigma(line(n + 1, len(levels.sigmas) - 1, 0)[:-1])),
    "simple": simple,
    "ddim_uniform": ddim_uniform,
    # Every (N / n)-th timestep down from the last: "trailing" spacing (arXiv:2305.08891, section 3.3).
    "turbo": lambda levels, n: ended(levels.sigma(line(n + 1, len(levels.sigmas), 0)[:-1].round() - 1)),
    "kl_optimal": kl_optimal,
    "beta": beta,
    "beta_timesteps": beta_timesteps,
    "linear_quadratic": linear_quadratic,
    "laplace": laplace,
    **{name: published(table) for name, table in TABLES.items()},
}
# Other names in use; those of one schedule in different spellings need none.
ALIASES: Mapping[str, str] = {"normal": "uniform", "ddim": "ddim_uniform", "align_your_steps_11": "align_your_steps"}


def find(kind: str, name: str, table: Mapping[str, T], listed: Iterable[str]) -> T:
    """What a name means in any spelling: "DPM++ 2M", "dpmpp_2m", "k_dpmpp_2m". Raises RequestError."""

    def plain(name: str) -> str:
        return re.sub("[^a-z0-9]", "", name.lower().removeprefix("k_").replace("+", "p"))

    spellings = {plain(key): key for key in reversed(list(table))}  # the first of like spellings is shown
    if key := spellings.get(plain(name)):
        return table[key]
    near = ", ".join(repr(spellings[n]) for n in get_close_matches(plain(name), spellings, cutoff=0.5))
    hint = f"; did you mean {near}?" if near else "."
    raise RequestError(f"unknown {kind} {name!r}{hint} All: {', '.join(listed)}")


def find_schedule(name: str) -> str:
    """The key of SCHEDULES that is meant: "SGM Uniform" -> "sgm_uniform"."""
    return find("schedule", name, {**{key: key for key in SCHEDULES}, **ALIASES}, SCHEDULES)
