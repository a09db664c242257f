"""The samplers by name, and what a caller has to know of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ...request import RequestError
from ..denoiser import Process, Sampler, VarianceExploding
from ..schedule import SCHEDULES, NoiseLevels, find
from .ddim import ddim, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s_ancestral, dpmpp_sde, lcm
from .euler import euler, euler_ancestral, heun


@dataclass(frozen=True)
class Spec:
    """A sampler: `sample(denoise, start(noise, sigmas[0], process), sigmas, cond, process, noise_source)`."""

    name: str  # as A1111 shows it
    sample: Sampler
    aliases: tuple[str, ...]
    noise: Literal["none", "fresh", "brownian"] = "none"
    schedule: str = "automatic"  # what "automatic" means for it
    calls: int = 1  # of the denoiser per step
    flow: bool = True  # works for rectified flow
    preserving: bool = False  # starts at unit variance and ends on the lowest trained level, as published

    def sigmas(self, schedule: str, levels: NoiseLevels, n: int) -> Tensor:
        """The n + 1 noise levels of n steps, descending to 0, for DDIM to the lowest rung."""
        sigmas = SCHEDULES[schedule](levels, n)
        if self.preserving and sigmas[-2] > levels.sigmas[0]:
            sigmas[-1] = levels.sigmas[0]
        return sigmas

    def start(self, noise: Tensor, sigma: Tensor, process: Process) -> Tensor:
        """Standard normal noise (B, C, H, W) as the state at the first noise level."""
        if not self.flow and not isinstance(process, VarianceExploding):
            names = ", ".join(spec.name for spec in SAMPLERS.values() if spec.flow)
            raise RequestError(f"sampler {self.name!r} does not work for flow models; take one of {names}")
        return noise * ((process.alpha(sigma) ** 2 + sigma**2).sqrt() if self.preserving else sigma)


SAMPLERS: Mapping[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("Euler a", euler_ancestral, ("k_euler_a", "k_euler_ancestral"), "fresh"),
        Spec("Euler", euler, ("k_euler",)),
        Spec("Heun", heun, ("k_heun",), calls=2),
        Spec("DPM++ 2S a", dpmpp_2s_ancestral, ("k_dpmpp_2s_a",), "fresh", "karras", calls=2, flow=False),
        Spec("DPM++ 2M", dpmpp_2m, ("k_dpmpp_2m",), schedule="karras"),
        Spec("DPM++ 2M SDE", dpmpp_2m_sde, ("k_dpmpp_2m_sde",), "brownian", "exponential"),
        Spec("DPM++ SDE", dpmpp_sde, ("k_dpmpp_sde",), "brownian", "karras", calls=2, flow=False),
        Spec("DDIM", ddim, (), schedule="ddim_uniform", preserving=True),
        Spec("LCM", lcm, (), "fresh", "turbo"),
    )
}


def find_sampler(name: str) -> tuple[Spec, str | None]:
    """The sampler that is meant, and the schedule if its name carries one: "DPM++ 2M Karras", "k_euler_a"."""
    names = {alias: spec for spec in SAMPLERS.values() for alias in (spec.name, *spec.aliases)}
    table: dict[str, tuple[Spec, str | None]] = {n: (spec, None) for n, spec in names.items()}
    table |= {f"{n} {key}": (spec, key) for key in SCHEDULES for n, spec in names.items()}
    return find("sampler", name, table, SAMPLERS)
