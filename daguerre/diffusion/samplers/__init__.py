"""The samplers by name, and what a caller has to know of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from torch import Tensor, cat

from ...request import RequestError, TextToImage
from ..denoiser import Process, Sampler, VarianceExploding
from ..schedule import ALIASES, SCHEDULES, NoiseLevels, find, karras, polyexponential
from . import adaptive, cfgpp, corrected, ddim, euler, linear, multistep, singlestep
from .churn import Churn
from .restart import restart


@dataclass(frozen=True)
class Spec:
    """Use: `sampler(request, levels)(denoise, start(noise, sigmas[0], process), sigmas, cond, process, noise)`."""

    name: str  # as A1111 shows it, or ComfyUI where A1111 has none
    sample: Sampler  # with its own settings
    aliases: tuple[str, ...] = ()
    noise: Literal["none", "fresh", "brownian"] = "none"  # that it needs without churn
    schedule: str = "automatic"  # what "automatic" means for it
    calls: int = 1  # of the denoiser per step, but for first and last steps
    flow: bool = True  # works for rectified flow
    preserving: bool = False  # starts at unit variance and ends on the lowest trained level, as published
    discard_penultimate: bool = False  # of one level more, leaves out the last one above 0
    own_levels: bool = False  # walks down to the lowest trained level by levels and steps of its own
    settings: tuple[str, ...] = ()  # what else it takes: fields of a request, "churn" for four of them, "levels"
    paper: str = ""

    def sampler(self, request: TextToImage, levels: NoiseLevels) -> Sampler:
        """`sample` with those of the request's numbers that it takes; others have no meaning for it."""
        chosen: dict[str, Any] = {}
        if "eta" in self.settings and request.eta is not None:
            chosen["eta"] = request.eta
        if "s_noise" in self.settings:
            chosen["s_noise"] = request.s_noise
        if "churn" in self.settings:
            end = request.s_tmax or float("inf")
            chosen["churn"] = Churn(request.s_churn, request.s_tmin, end, request.s_noise)
        if "levels" in self.settings:
            chosen["levels"] = levels
        return partial(self.sample, **chosen)

    def counted(self, steps: int) -> int:
        """The calls that a prompt's changes take for so many steps; with steps of its own, one each, as in A1111."""
        return steps * (1 if self.own_levels else self.calls)

    def sigmas(self, schedule: str, levels: NoiseLevels, n: int, rho: float = 0.0) -> Tensor:
        """The n + 1 noise levels of n steps, descending to 0, for some to the lowest rung.

        rho is the exponent of "karras" and "polyexponential", 0 for their own; it means nothing to others. Raises
        RequestError where the ladder has too few rungs for a schedule that counts in them.
        """
        discard = self.discard_penultimate and n < len(levels.sigmas)
        make = SCHEDULES[schedule]
        if rho and make in (karras, polyexponential):
            make = partial(make, rho=rho)
        sigmas = make(levels, n + discard)
        if discard:
            sigmas = cat([sigmas[:-2], sigmas[-1:]])
        if (self.preserving or self.own_levels) and sigmas[-2] > levels.sigmas[0]:
            sigmas[-1] = levels.sigmas[0]
        if not (sigmas.diff() < 0).all():
            low, high = levels.sigmas[[0, -1]].tolist()
            raise RequestError(
                f"schedule {schedule!r} has no {n} different noise levels from {high:g} down to {low:g}; "
                "take fewer steps, other ends (sigma_min, sigma_max) or another schedule"
            )
        return sigmas

    def start(self, noise: Tensor, sigma: Tensor, process: Process) -> Tensor:
        """Standard normal noise (B, C, H, W) as the state at the first noise level."""
        if not self.flow and not isinstance(process, VarianceExploding):
            names = ", ".join(spec.name for spec in SAMPLERS.values() if spec.flow)
            raise RequestError(f"sampler {self.name!r} does not work for flow models; take one of {names}")
        return noise * ((process.alpha(sigma) ** 2 + sigma**2).sqrt() if self.preserving else sigma)


NOISY = ("eta", "s_noise")
STOCHASTIC = (*NOISY, "levels")
DDIM, KARRAS, SOLVER, PLUS = "arXiv:2010.02502", "arXiv:2206.00364", "arXiv:2206.00927", "arXiv:2211.01095"
PSEUDO, DEIS, SEEDS, UNIPC = "arXiv:2202.09778", "arXiv:2204.13902", "arXiv:2305.14267", "arXiv:2302.04867"
RES, SA, CFGPP, GRADIENTS = "arXiv:2308.02157", "arXiv:2309.05019", "arXiv:2406.08070", "openreview:o2ND9v0CeK"
# fmt: off
SAMPLERS: Mapping[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec("Euler a", euler.euler_ancestral, ("k_euler_a", "k_euler_ancestral"), "fresh", settings=NOISY, paper=DDIM),
        Spec("Euler", euler.euler, ("k_euler",), settings=("churn",), paper=KARRAS),
        Spec("Heun", euler.heun, ("k_heun",), calls=2, settings=("churn",), paper=KARRAS),
        Spec("HeunPP2", singlestep.heunpp2, ("k_heunpp2",), calls=3, settings=("churn",)),
        Spec(
            "DPM2", singlestep.dpm2, ("k_dpm_2",), "none", "karras", 2,
            discard_penultimate=True, settings=("churn",), paper=SOLVER,
        ),
        Spec(
            "DPM2 a", singlestep.dpm2_ancestral, ("k_dpm_2_a", "k_dpm_2_ancestral"), "fresh", "karras", 2,
            flow=False, discard_penultimate=True, settings=NOISY, paper=SOLVER,
        ),
        Spec(
            "DPM fast", adaptive.dpm_fast, ("k_dpm_fast",), "fresh",
            flow=False, own_levels=True, settings=NOISY, paper=SOLVER,
        ),
        Spec(
            "DPM adaptive", adaptive.dpm_adaptive, ("k_dpm_ad", "k_dpm_adaptive"), "fresh", calls=3,
            flow=False, own_levels=True, settings=NOISY, paper=SOLVER,
        ),
        Spec(
            "DPM++ 2S a", singlestep.dpmpp_2s_ancestral, ("k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"), "fresh", "karras", 2,
            flow=False, settings=NOISY, paper=PLUS,
        ),
        Spec("DPM++ 2M", multistep.dpmpp_2m, ("k_dpmpp_2m",), schedule="karras", paper=PLUS),
        Spec(
            "DPM++ 2M SDE", multistep.dpmpp_2m_sde, ("k_dpmpp_2m_sde",), "brownian", "exponential",
            settings=NOISY, paper=PLUS,
        ),
        Spec(
            "DPM++ 2M SDE Heun", multistep.dpmpp_2m_sde_heun, ("k_dpmpp_2m_sde_heun",), "brownian", "exponential",
            settings=NOISY, paper=PLUS,
        ),
        Spec(
            "DPM++ 3M SDE", multistep.dpmpp_3m_sde, ("k_dpmpp_3m_sde",), "brownian", "exponential",
            flow=False, discard_penultimate=True, settings=NOISY, paper=PLUS,
        ),
        Spec(
            "DPM++ SDE", singlestep.dpmpp_sde, ("k_dpmpp_sde",), "brownian", "karras", 2,
            flow=False, settings=NOISY, paper=PLUS,
        ),
        Spec("LMS", linear.lms, ("k_lms",)),
        Spec("Restart", restart, (), "fresh", "karras", 2, flow=False, settings=("s_noise",), paper="arXiv:2306.14878"),
        Spec("DDIM", ddim.ddim, (), schedule="ddim_uniform", preserving=True, settings=("eta",), paper=DDIM),
        Spec("DDPM", euler.euler_ancestral, (), "fresh", paper="arXiv:2006.11239"),
        Spec("PLMS", linear.plms, ("pndm",), schedule="ddim_uniform", preserving=True, paper=PSEUDO),
        Spec("UniPC", corrected.unipc, ("uni_pc", "uni_pc_bh1"), flow=False, paper=UNIPC),
        Spec("UniPC bh2", corrected.unipc_bh2, ("uni_pc_bh2",), flow=False, paper=UNIPC),
        Spec("LCM", ddim.lcm, (), "fresh", "turbo", paper="arXiv:2310.04378"),
        Spec(
            "TCD", ddim.tcd, (), "fresh", "turbo",
            flow=False, preserving=True, settings=("eta", "levels"), paper="arXiv:2402.19159",
        ),
        Spec("DEIS", linear.deis, (), paper=DEIS),
        Spec("IPNDM", linear.ipndm, (), paper=DEIS),
        Spec("IPNDM_V", linear.ipndm_v, (), paper=DEIS),
        Spec("Gradient Estimation", linear.gradient_estimation, ("euler_ge",), paper=GRADIENTS),
        Spec("Res Multistep", multistep.res_multistep, (), flow=False, paper=RES),
        Spec(
            "Res Multistep a", multistep.res_multistep_ancestral, ("res_multistep_ancestral",), "fresh",
            flow=False, settings=NOISY, paper=RES,
        ),
        Spec("ER SDE", multistep.er_sde, (), "fresh", flow=False, settings=("s_noise",), paper="arXiv:2309.06169"),
        Spec("SEEDS 2", singlestep.seeds_2, (), "fresh", calls=2, flow=False, settings=NOISY, paper=SEEDS),
        Spec("SEEDS 3", singlestep.seeds, (), "fresh", calls=3, flow=False, settings=NOISY, paper=SEEDS),
        Spec("Exp Heun 2 x0", singlestep.exp_heun, (), calls=2, flow=False, paper=SEEDS),
        Spec(
            "Exp Heun 2 x0 SDE", singlestep.exp_heun_sde, (), "fresh", calls=2,
            flow=False, settings=NOISY, paper=SEEDS,
        ),
        Spec("SA-Solver", corrected.sa_solver, (), "fresh", flow=False, settings=STOCHASTIC, paper=SA),
        Spec(
            "SA-Solver PECE", corrected.sa_solver_pece, (), "fresh", calls=2,
            flow=False, settings=STOCHASTIC, paper=SA,
        ),
        Spec(
            "DDIM CFG++", cfgpp.ddim_cfgpp, (), schedule="ddim_uniform", preserving=True,
            settings=("eta",), paper=CFGPP,
        ),
        Spec("Euler CFG++", cfgpp.euler_cfgpp, (), paper=CFGPP),
        Spec(
            "Euler a CFG++", cfgpp.euler_ancestral_cfgpp, ("euler_ancestral_cfg_pp",), "fresh",
            settings=NOISY, paper=CFGPP,
        ),
        Spec(
            "DPM++ 2S a CFG++", cfgpp.dpmpp_2s_ancestral_cfgpp, ("dpmpp_2s_ancestral_cfg_pp",), "fresh", "karras", 2,
            flow=False, settings=NOISY, paper=CFGPP,
        ),
        Spec("DPM++ 2M CFG++", cfgpp.dpmpp_2m_cfgpp, (), schedule="karras", flow=False, paper=CFGPP),
        Spec("Res Multistep CFG++", cfgpp.res_multistep_cfgpp, (), flow=False, paper=CFGPP),
        Spec(
            "Res Multistep a CFG++", cfgpp.res_multistep_ancestral_cfgpp, ("res_multistep_ancestral_cfg_pp",), "fresh",
            flow=False, settings=NOISY, paper=CFGPP,
        ),
        Spec("Gradient Estimation CFG++", cfgpp.gradient_estimation_cfgpp, (), paper=CFGPP),
        Spec("CFG++ UD10 AB", cfgpp.ud10_ab_cfgpp, ("cfgpp_ud10_ab",), paper=CFGPP),
    )
}
# fmt: on


@cache
def _names() -> dict[str, tuple[Spec, str | None]]:
    names = {alias: spec for spec in SAMPLERS.values() for alias in (spec.name, *spec.aliases)}
    table: dict[str, tuple[Spec, str | None]] = {n: (spec, None) for n, spec in names.items()}
    spellings = {**{key: key for key in SCHEDULES}, **ALIASES}
    return table | {f"{n} {spelling}": (spec, key) for spelling, key in spellings.items() for n, spec in names.items()}


def find_sampler(name: str) -> tuple[Spec, str | None]:
    """The sampler that is meant, and the schedule if its name carries one: "DPM++ 2M Karras", "k_euler_a"."""
    return find("sampler", name, _names(), SAMPLERS)
