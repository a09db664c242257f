"""The noise levels a network was trained on, and the ways to walk down them in n steps."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import torch
from torch import Tensor

from ..request import RequestError

T = TypeVar("T")


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
    """Every (N // n)-th timestep up from 1, or from 0 where that is too many: "leading" spacing."""
    t = torch.arange(n).flip(0) * (len(levels.sigmas) // n)
    return ended(levels.sigma(t + (t[0] + 1 < len(levels.sigmas))))


def karras(levels: NoiseLevels, n: int, rho: float = 7.0) -> Tensor:
    """Evenly in sigma^(1 / rho): arXiv:2206.00364, equation 5."""
    return ended(line(n, *levels.sigmas[[-1, 0]].double() ** (1 / rho)) ** rho)


# n steps -> n + 1 noise levels (float32, on the CPU), descending, the last one 0.
SCHEDULES: Mapping[str, Callable[[NoiseLevels, int], Tensor]] = {
    "automatic": uniform,  # for samplers that no other suits better
    "uniform": uniform,
    "karras": karras,
    "exponential": lambda levels, n: ended(line(n, *levels.sigmas[[-1, 0]].double().log()).exp()),
    "sgm_uniform": lambda levels, n: ended(levels.sigma(line(n + 1, len(levels.sigmas) - 1, 0)[:-1])),
    "ddim_uniform": ddim_uniform,
    # Every (N / n)-th timestep down from the last: "trailing" spacing (arXiv:2305.08891, section 3.3).
    "turbo": lambda levels, n: ended(levels.sigma(line(n + 1, len(levels.sigmas), 0)[:-1].round() - 1)),
}


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
    return find("schedule", name, {key: key for key in SCHEDULES}, SCHEDULES)
