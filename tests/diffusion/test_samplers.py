"""The samplers on Gaussian data, where the best denoiser and the way of every picture are known exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Cond, Process, RectifiedFlow, VarianceExploding, renewal
from daguerre.diffusion.guidance import ClassifierFree
from daguerre.diffusion.noise import brownian, fresh, initial
from daguerre.diffusion.prediction import Epsilon
from daguerre.diffusion.samplers import SAMPLERS, find_sampler
from daguerre.diffusion.samplers.ddim import ddim, lcm
from daguerre.diffusion.samplers.euler import euler, euler_ancestral, heun
from daguerre.diffusion.samplers.multistep import dpmpp_2m, dpmpp_2m_sde
from daguerre.diffusion.samplers.singlestep import dpmpp_2s_ancestral, dpmpp_sde
from daguerre.diffusion.schedule import SCHEDULES, scaled_linear
from daguerre.request import RequestError

COND = Cond(torch.zeros(1, 1, 1))
LEVELS = scaled_linear()
SPREAD = 0.7  # standard deviation of the data
EXPLODING, FLOW = VarianceExploding(), RectifiedFlow()
TWO_S, SDE, TWO_M_SDE = (partial(s, eta=0.0) for s in (dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m_sde))


def variance(process: Process, sigma: Tensor) -> Tensor:
    return process.alpha(sigma) ** 2 * SPREAD**2 + sigma**2


@dataclass(frozen=True)
class Unguided:
    """A denoiser whose negative estimate is its estimate: CFG++ by it is the plain sampler."""

    estimate: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return self.estimate(x, sigma)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        x0 = self.estimate(x, sigma)
        return x0, x0


def gaussian(process: Process):
    """E[x0 | x] for data of mean 0."""
    return Unguided(lambda x, sigma: process.alpha(sigma) * SPREAD**2 * x / variance(process, sigma))


def silence(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    raise AssertionError("no noise was due")


def last(sample, x, sigmas, process=EXPLODING, noise=silence, denoise=None) -> Tensor:
    *_, step = sample(denoise or gaussian(process), x, sigmas, COND, process=process, noise=noise)
    return step.x


def error(sample, process: Process, n: int) -> float:
    """Against the exact solution of the ODE, on which x keeps its place in the distribution of its level."""
    high, low = (10.0, 0.1) if process is EXPLODING else (0.95, 0.1)
    sigmas = torch.linspace(math.log(high), math.log(low), n + 1, dtype=torch.float64).exp()
    start, end = (variance(process, sigmas[i]).sqrt() for i in (0, -1))
    scale = (process.alpha(sigmas[-1]) ** 2 + sigmas[-1] ** 2).sqrt() if sample is ddim else 1
    noise = (lambda a, b: torch.zeros(1)) if sample is SDE else silence
    return abs(last(sample, start.reshape(1, 1, 1, 1), sigmas, process, noise).item() * scale - end).item()


@pytest.mark.parametrize(
    ("sample", "process", "order"),
    [
        (euler, EXPLODING, 1),
        (euler, FLOW, 1),
        (ddim, EXPLODING, 1),
        (ddim, FLOW, 1),
        (heun, EXPLODING, 2),
        (heun, FLOW, 2),
        (dpmpp_2m, EXPLODING, 2),
        (dpmpp_2m, FLOW, 2),
        (TWO_S, EXPLODING, 2),
        (SDE, EXPLODING, 2),
    ],
)
def test_order_of_convergence(sample, process: Process, order: int) -> None:
    coarse, fine = error(sample, process, 128), error(sample, process, 256)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)
    assert fine < 0.02


@pytest.mark.parametrize("process", [EXPLODING, FLOW], ids=["exploding", "flow"])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("LCM", "TCD", "CFG++ UD10 AB")])
def test_samples_have_the_spread_of_the_data(name: str, process: Process) -> None:
    """From pure noise to 0, with a fine schedule: the noise that is taken away and added balances.

    But LCM and TCD renew it, and CFG++ UD10 AB leads slopes on by a tenth of their change, however fine the steps.
    """
    spec = SAMPLERS[name]
    if process is FLOW and not spec.flow:
        pytest.skip("refused, see below")
    high = 14.6 if process is EXPLODING else 1.0
    sigmas = torch.cat([torch.linspace(1, 0.02, 160) ** (4 if process is EXPLODING else 1) * high, torch.zeros(1)])
    seeds, shape = range(2), (1, 64, 64)
    noise = brownian(seeds, shape, float(sigmas[-2]), high) if spec.noise == "brownian" else fresh(seeds, shape)
    x = spec.start(initial(seeds, shape), sigmas[0], process)
    x = last(spec.sample, x, sigmas, process, noise)
    assert x.std().item() == pytest.approx(SPREAD, rel=0.04)


def test_lcm_renews_all_noise() -> None:
    """Its last state is the estimate made of clean latents with noise of the last level."""
    sigmas = torch.tensor([14.6, 3.0, 0.5, 0.0])
    x = last(lcm, 14.6 * initial([1], (1, 64, 64)), sigmas, noise=fresh([1], (1, 64, 64)))
    ratios = [SPREAD**2 / (SPREAD**2 + s**2) for s in (14.6, 3.0, 0.5)]
    expected = 14.6 * ratios[0]
    for ratio, s in zip(ratios[1:], (3.0, 0.5), strict=True):
        expected = ratio * math.hypot(expected, s)
    assert x.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("process", [EXPLODING, FLOW], ids=["exploding", "flow"])
def test_ancestral_at_eta_0_is_euler(process: Process) -> None:
    sigmas = torch.tensor([0.9, 0.5, 0.2, 0.0])
    x = initial([3], (4, 8, 8))
    plain = last(euler, x, sigmas, process)
    assert torch.allclose(last(partial(euler_ancestral, eta=0.0), x, sigmas, process), plain, atol=1e-6)
    assert torch.allclose(last(ddim, x, sigmas, process), plain, atol=1e-6)
    noisy = last(euler_ancestral, x, sigmas, process, fresh([3], (4, 8, 8)))
    assert not torch.allclose(noisy, plain, atol=0.1)


def test_the_sde_at_eta_0_is_the_multistep_solver() -> None:
    sigmas = SCHEDULES["karras"](LEVELS, 8)
    x = 14.6 * initial([3], (4, 8, 8))
    assert torch.equal(last(TWO_M_SDE, x, sigmas), last(dpmpp_2m, x, sigmas))
    assert not torch.allclose(last(dpmpp_2m_sde, x, sigmas, noise=fresh([3], (4, 8, 8))), last(dpmpp_2m, x, sigmas))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("process", [EXPLODING, FLOW], ids=["exploding", "flow"])
def test_old_and_new_noise_make_up_the_level(process: Process, eta: float) -> None:
    for a, b in [(0.9, 0.4), (0.4, 0.39), (0.4, 0.0)]:
        down, up = renewal(process, torch.tensor(a), torch.tensor(b), eta)
        assert math.hypot(down, up) == pytest.approx(b, abs=1e-6)
        assert (up > 0) == (eta > 0 and b > 0)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "DPM adaptive"])  # fits a batch's steps to it
def test_a_picture_does_not_know_its_batch(name: str) -> None:
    spec, shape, seeds = SAMPLERS[name], (4, 8, 8), [11, 5, 2**31]

    def draw(seeds: list[int]) -> Tensor:
        sigmas = spec.sigmas(spec.schedule, LEVELS, 6)
        low, high = float(sigmas[-2]), float(sigmas[0])
        noise = brownian(seeds, shape, low, high) if spec.noise == "brownian" else fresh(seeds, shape)
        x = spec.start(initial(seeds, shape), sigmas[0], EXPLODING)
        return last(spec.sample, x, sigmas, noise=noise, denoise=Unguided(lambda x, sigma: (x / (1 + sigma)).sin()))

    batch = draw(seeds)
    assert torch.equal(batch, torch.cat([draw([seed]) for seed in seeds]))
    assert not torch.equal(batch[0], batch[1])


# Calls of the denoiser in five steps; others make one per step, or two and one in the last.
CALLS = {"HeunPP2": 12, "SEEDS 3": 13, "PLMS": 6, "SA-Solver PECE": 9}


@pytest.mark.parametrize("name", [name for name, spec in SAMPLERS.items() if not spec.own_levels])
def test_steps_tell_where_they_are(name: str) -> None:
    """One Step per step, with the level it began at and the estimate of its first call."""
    spec, calls = SAMPLERS[name], []

    def estimate(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append((sigma.item(), gaussian(EXPLODING)(x, sigma, COND)))
        return calls[-1][1]

    sigmas = spec.sigmas(spec.schedule, LEVELS, 5)
    noise = brownian([1], (1, 4, 4), 0.01, 14.7) if spec.noise == "brownian" else fresh([1], (1, 4, 4))
    x = spec.start(initial([1], (1, 4, 4)), sigmas[0], EXPLODING)
    steps = list(spec.sample(Unguided(estimate), x, sigmas, COND, process=EXPLODING, noise=noise))
    assert [step.i for step in steps] == [0, 1, 2, 3, 4]
    assert [step.sigma.item() for step in steps] == sigmas[:-1].tolist()
    assert len(calls) == CALLS.get(name, 5 * spec.calls - (spec.calls == 2))
    estimates = [found for sigma, found in calls]
    assert all(any(torch.equal(step.x0, found) for found in estimates) for step in steps)
    if sigmas[-1] == 0 and name not in ("LMS", "CFG++ UD10 AB"):  # which end by what was before, too
        assert torch.allclose(steps[-1].x, steps[-1].x0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "DPM adaptive"])  # has to read latents
def test_latents_may_be_on_another_device_than_levels(name: str) -> None:
    spec, shape = SAMPLERS[name], (4, 8, 8)
    sigmas = spec.sigmas(spec.schedule, LEVELS, 4)
    low, high = float(sigmas[-2]), float(sigmas[0])
    noise = brownian([1], shape, low, high, "meta") if spec.noise == "brownian" else fresh([1], shape, "meta")
    x = spec.start(initial([1], shape).to("meta"), sigmas[0], EXPLODING)
    network = Epsilon(lambda x, t, *_: x * t[:, None, None, None], LEVELS)
    x = last(spec.sample, x, sigmas, noise=noise, denoise=ClassifierFree(network, COND, 2.0, batched=False))
    assert x.device.type == "meta"
    assert x.shape == (1, *shape)


def test_ddim_starts_and_ends_as_published() -> None:
    spec, noise = SAMPLERS["DDIM"], initial([1], (4, 8, 8))
    sigmas = spec.sigmas("ddim_uniform", LEVELS, 10)
    assert torch.equal(sigmas[:-1], SCHEDULES["ddim_uniform"](LEVELS, 10)[:-1])
    assert sigmas[-1] == LEVELS.sigmas[0]
    assert torch.allclose(spec.start(noise, sigmas[0], EXPLODING), noise * (1 + sigmas[0] ** 2).sqrt())
    # A schedule that was on the lowest rung before goes on to 0, and so does any other sampler.
    assert spec.sigmas("karras", LEVELS, 10)[-1] == 0
    assert SAMPLERS["Euler"].sigmas("ddim_uniform", LEVELS, 10)[-1] == 0


def test_others_start_from_noise_at_the_first_level() -> None:
    noise, sigma = initial([1], (4, 8, 8)), torch.tensor(14.6)
    assert torch.equal(SAMPLERS["Euler a"].start(noise, sigma, EXPLODING), 14.6 * noise)
    assert torch.equal(SAMPLERS["DDIM"].start(noise, torch.tensor(1.0), FLOW), noise)


@pytest.mark.parametrize("name", ["DPM++ 2S a", "DPM++ SDE"])
def test_flow_is_refused_where_it_cannot_work(name: str) -> None:
    with pytest.raises(RequestError, match=r"does not work for flow models; take one of Euler a, Euler"):
        SAMPLERS[name].start(torch.zeros(1, 1, 1, 1), torch.tensor(1.0), FLOW)


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("Euler a", "Euler a", None),
        ("euler_a", "Euler a", None),
        ("k_euler_a", "Euler a", None),
        ("k_euler_ancestral", "Euler a", None),
        ("k_euler", "Euler", None),
        ("heun", "Heun", None),
        ("dpmpp_2m", "DPM++ 2M", None),
        ("DPM++ 2M Karras", "DPM++ 2M", "karras"),
        ("k_dpmpp_2m_sde", "DPM++ 2M SDE", None),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "exponential"),
        ("DPM++ SDE Karras", "DPM++ SDE", "karras"),
        ("dpm++ 2s a sgm uniform", "DPM++ 2S a", "sgm_uniform"),
        ("ddim", "DDIM", None),
        ("LCM", "LCM", None),
    ],
)
def test_names_in_use(name: str, sampler: str, schedule: str | None) -> None:
    assert find_sampler(name) == (SAMPLERS[sampler], schedule)


def test_an_unknown_sampler_lists_the_near_ones() -> None:
    with pytest.raises(RequestError, match="unknown sampler 'eulr a'; did you mean 'Euler a', 'Euler'") as caught:
        find_sampler("eulr a")
    assert str(caught.value).endswith("All: " + ", ".join(SAMPLERS))
    with pytest.raises(RequestError, match=r"unknown sampler 'watercolor'\. All: Euler a, "):
        find_sampler("watercolor")


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_own_schedule_of_a_sampler_exists(name: str) -> None:
    assert SAMPLERS[name].schedule in SCHEDULES
