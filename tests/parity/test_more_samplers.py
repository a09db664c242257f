"""The samplers beyond the first ones against k-diffusion and diffusers: the same toy network, the same noise."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Step, VarianceExploding
from daguerre.diffusion.noise import brownian_tree, fresh, initial
from daguerre.diffusion.prediction import Epsilon, Velocity
from daguerre.diffusion.samplers import SAMPLERS
from daguerre.diffusion.samplers.churn import Churn
from daguerre.diffusion.samplers.weights import adams
from daguerre.diffusion.schedule import SCHEDULES
from tests.parity.walks import (
    COND,
    LEVELS,
    SEED,
    SHAPE,
    TRAINED,
    continued,
    k_diffusion,
    ladder,
    network,
    pipeline,
    relative,
    smooth_noise,
)

diffusers = pytest.importorskip("diffusers")
DENOISE = Epsilon(network, LEVELS)


@pytest.fixture(scope="module")
def reference():
    """k-diffusion's samplers."""
    return k_diffusion()


def model(x: Tensor, sigma: Tensor) -> Tensor:
    return DENOISE(x, sigma, COND)


def walk(sample, x: Tensor, sigmas: Tensor, noise=smooth_noise, denoise=DENOISE, **settings) -> list[Step]:
    return list(sample(denoise, x, sigmas, COND, VarianceExploding(), noise, **settings))


@pytest.mark.parametrize("eta", [None, 0.0, 0.5])
@pytest.mark.parametrize("schedule", ["automatic", "karras", "exponential"])
@pytest.mark.parametrize(
    ("name", "function", "settings"),
    [
        ("DPM2 a", "sample_dpm_2_ancestral", {}),
        ("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", {"solver_type": "heun"}),
        ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {}),
    ],
)
def test_k_diffusion(reference, name: str, function: str, settings: dict, schedule: str, eta: float | None) -> None:
    spec = SAMPLERS[name]
    sigmas, given = spec.sigmas(schedule, LEVELS, 20), {} if eta is None else {"eta": eta}
    x = initial([SEED], SHAPE) * sigmas[0]
    theirs = getattr(reference, function)(
        model, x, sigmas, disable=True, noise_sampler=smooth_noise, s_noise=0.9, **settings, **given
    )
    assert relative(walk(spec.sample, x, sigmas, s_noise=0.9, **given)[-1].x, theirs) < 1e-5


@pytest.mark.parametrize("schedule", ["automatic", "karras", "sgm_uniform"])
@pytest.mark.parametrize(("name", "function"), [("DPM2", "sample_dpm_2"), ("LMS", "sample_lms")])
def test_k_diffusion_without_noise(reference, name: str, function: str, schedule: str) -> None:
    sigmas = SAMPLERS[name].sigmas(schedule, LEVELS, 20)
    x = initial([SEED], SHAPE) * sigmas[0]
    theirs = getattr(reference, function)(model, x, sigmas, disable=True)
    assert relative(walk(SAMPLERS[name].sample, x, sigmas)[-1].x, theirs) < (1e-5 if name == "DPM2" else 1e-4)


@pytest.mark.parametrize(
    "churn", [Churn(8.0), Churn(30.0, s_noise=1.007), Churn(20.0, 0.5, 8.0)], ids=["a little", "much", "in a range"]
)
@pytest.mark.parametrize(
    ("name", "function"), [("Euler", "sample_euler"), ("Heun", "sample_heun"), ("DPM2", "sample_dpm_2")]
)
def test_k_diffusion_with_churn(monkeypatch, reference, name: str, function: str, churn: Churn) -> None:
    """With its own stream of noise, of which it draws in every step."""
    theirs_noise, ours_noise = fresh([SEED], SHAPE), fresh([SEED], SHAPE)
    monkeypatch.setattr(reference.torch, "randn_like", lambda x: theirs_noise())
    sigmas = SCHEDULES["karras"](LEVELS, 20)
    x = initial([SEED], SHAPE) * sigmas[0]
    theirs = getattr(reference, function)(model, x, sigmas, disable=True, **vars(churn))
    found = walk(SAMPLERS[name].sample, x, sigmas, ours_noise, churn=churn)[-1].x
    assert relative(found, theirs) < 1e-5
    assert relative(found, walk(SAMPLERS[name].sample, x, sigmas)[-1].x) > 0.01


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 30])
def test_dpm_fast(reference, steps: int, eta: float) -> None:
    spec = SAMPLERS["DPM fast"]
    sigmas = spec.sigmas("automatic", LEVELS, steps)
    x = initial([SEED], SHAPE) * sigmas[0]
    low, high = LEVELS.sigmas[[0, -1]].tolist()
    theirs = reference.sample_dpm_fast(
        model,
        x,
        low,
        high,
        steps,
        disable=True,
        eta=eta,
        noise_sampler=lambda a, b: smooth_noise(a.round(decimals=5), b),
    )
    calls = []

    def counted(x: Tensor, sigma: Tensor, cond) -> Tensor:
        calls.append(sigma)
        return DENOISE(x, sigma, cond)

    assert relative(walk(spec.sample, x, sigmas, denoise=counted, eta=eta)[-1].x, theirs) < 1e-4
    assert len(calls) == steps


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpm_adaptive(reference, eta: float) -> None:
    """As many steps as k-diffusion accepts, whatever number is asked for."""
    spec, x = SAMPLERS["DPM adaptive"], initial([SEED], SHAPE) * LEVELS.sigmas[-1]
    low, high = LEVELS.sigmas[[0, -1]].tolist()
    theirs, info = reference.sample_dpm_adaptive(
        model, x, low, high, disable=True, eta=eta, noise_sampler=smooth_noise, return_info=True
    )
    for asked in (1, 5, 50):
        steps = walk(spec.sample, x, spec.sigmas("automatic", LEVELS, asked), eta=eta)
        assert len(steps) == info["n_accept"]
        assert relative(steps[-1].x, theirs) < 1e-4


def test_brownian_tree(reference) -> None:
    """The numbers of k-diffusion's noise sampler to the bit, also for points between the steps and backwards."""
    for schedule in ("exponential", "karras"):
        sigmas = SCHEDULES[schedule](LEVELS, 6)[:-1]
        seeds = [7, 2**32 - 1]
        x = torch.zeros(2, *SHAPE)
        theirs = reference.BrownianTreeNoiseSampler(
            x, sigmas.min().double() - 1e-6, sigmas.max().double() + 1e-6, seeds
        )
        ours = brownian_tree(seeds, SHAPE, float(sigmas.min().double()) - 1e-6, float(sigmas.max().double()) + 1e-6)
        for a, b in pairwise(sigmas):
            middle = (a * b).sqrt()
            for start, end in ((a, b), (a, middle), (middle, b), (b, a)):
                assert torch.equal(ours(start, end), theirs(start, end))


# Of diffusers: the scheduler, its settings, and how it is like in ours.


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # DEIS takes numpy's logarithms of tensors
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "scheduler", "settings", "steps"),
    [
        ("LMS", "LMSDiscreteScheduler", {"timestep_spacing": "trailing"}, 20),
        ("UniPC", "UniPCMultistepScheduler", {"solver_order": 3, "solver_type": "bh1"}, 20),
        ("UniPC", "UniPCMultistepScheduler", {"solver_order": 3, "solver_type": "bh1"}, 6),
        ("UniPC bh2", "UniPCMultistepScheduler", {"solver_order": 3}, 20),
        ("UniPC bh2", "UniPCMultistepScheduler", {"solver_order": 3}, 4),
        ("DEIS", "DEISMultistepScheduler", {"solver_order": 3, "timestep_spacing": "trailing"}, 16),
        ("DDPM", "DDPMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, 20),
        ("DDPM", "DDPMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, 50),
        ("TCD", "TCDScheduler", {"original_inference_steps": 50}, 5),
        ("TCD", "TCDScheduler", {"original_inference_steps": 50}, 1),
        ("PLMS", "PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}, 20),
        ("PLMS", "PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}, 7),
    ],
)
def test_diffusers(name: str, scheduler: str, settings: dict, steps: int, prediction: str) -> None:
    """All but LMS in the scale of unit variance, in which they start."""
    if name == "PLMS" and prediction != "epsilon":
        pytest.skip("there, diffusers mixes the outputs of steps; the paper mixes their noise")
    if name.startswith("UniPC"):
        settings = {**settings, "final_sigmas_type": "sigma_min"}  # 0 times infinity for bh1
    theirs = getattr(diffusers, scheduler)(**TRAINED, **settings, prediction_type=prediction)
    theirs.set_timesteps(steps)
    levels, spec = ladder(theirs), SAMPLERS[name]
    if hasattr(theirs, "sigmas"):
        sigmas = theirs.sigmas.float()
    else:
        sigmas = spec.sigmas("ddim_uniform" if name == "PLMS" else "turbo", levels, steps)
    denoise = (Epsilon if prediction == "epsilon" else Velocity)(network, levels)
    x = initial([SEED], SHAPE) * (sigmas[0] if name == "LMS" else (1 + sigmas[0] ** 2).sqrt())
    found = walk(spec.sample, x, sigmas, fresh([SEED], SHAPE), denoise)[-1].x
    if name.startswith(("UniPC", "DEIS")):
        found = found / (1 + sigmas[-1] ** 2).sqrt()
    options = {"generator": continued()} if spec.noise == "fresh" else {}
    # v at the highest levels asks for more digits of alpha than its square roots in float32 have.
    assert relative(found, pipeline(theirs, steps, **options)) < (5e-5 if prediction == "epsilon" else 1e-3)


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("corrects", [False, True], ids=["predictor", "corrector"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_weights_of_sa_solver(count: int, corrects: bool, tau: float) -> None:
    """Against diffusers' closed forms, which it has without the approximation that it adds for two estimates."""
    theirs, growth = diffusers.SASolverScheduler(**TRAINED), 1 + tau**2
    start, end = -0.7, -0.2  # in -log(sigma)
    nodes = [end, start, -1.3, -1.6, -2.4][not corrects :][:count]
    found = theirs.get_coefficients_fn(
        count,
        *(torch.tensor(t, dtype=torch.float64) for t in (start, end)),
        torch.tensor(nodes).double(),
        torch.tensor(tau),
    )
    expected = [float(c) * growth * math.exp(-growth * end) for c in found]
    ours = [growth * weight for weight in adams([node - start for node in nodes], end - start, growth)]
    assert ours == pytest.approx(expected, rel=1e-4)
    assert sum(ours) == pytest.approx(1 - math.exp(-growth * (end - start)))
