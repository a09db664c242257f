"""The noise levels and schedules against diffusers."""

import pytest
import torch

from daguerre.diffusion.schedule import SCHEDULES, beta_quantile, polyexponential, scaled_linear
from tests.parity.walks import k_diffusion

diffusers = pytest.importorskip("diffusers")
LEVELS = scaled_linear()
TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def alpha_bar(sigmas: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + sigmas.double() ** 2)


def test_the_ladder() -> None:
    theirs = diffusers.DDIMScheduler(**TRAINED).alphas_cumprod
    assert torch.allclose(alpha_bar(LEVELS.sigmas), theirs.double(), rtol=2e-5, atol=1e-7)


def test_zero_terminal_signal() -> None:
    theirs = diffusers.EulerDiscreteScheduler(**TRAINED, rescale_betas_zero_snr=True)
    found = alpha_bar(LEVELS.zero_terminal().sigmas).sqrt()
    assert torch.allclose(found, theirs.alphas_cumprod.double().sqrt(), atol=2e-6)
    assert LEVELS.zero_terminal().sigmas[-1].item() == pytest.approx(theirs.sigmas[0].item(), rel=1e-6)


@pytest.mark.parametrize("steps", [4, 10, 16, 20, 30, 50])
@pytest.mark.parametrize(
    ("schedule", "spacing"),
    [
        ("automatic", {"timestep_spacing": "linspace"}),
        ("ddim_uniform", {"timestep_spacing": "leading", "steps_offset": 1}),
        ("turbo", {"timestep_spacing": "trailing"}),
        ("karras", {"use_karras_sigmas": True}),
        ("exponential", {"use_exponential_sigmas": True}),
        ("beta", {"use_beta_sigmas": True}),
    ],
)
def test_schedules(schedule: str, spacing: dict, steps: int) -> None:
    theirs = diffusers.EulerDiscreteScheduler(**TRAINED, **spacing)
    theirs.set_timesteps(steps)
    sigmas = SCHEDULES[schedule](LEVELS, steps)
    assert torch.allclose(LEVELS.timestep(sigmas[:-1]), theirs.timesteps.float(), atol=2e-3)
    # On whole timesteps; between them diffusers interpolates sigma, and we, as k-diffusion, log sigma.
    whole = theirs.timesteps == theirs.timesteps.round()
    assert torch.allclose(sigmas[:-1][whole], theirs.sigmas[:-1][whole], rtol=4e-5)
    assert sigmas[-1] == theirs.sigmas[-1] == 0


@pytest.mark.parametrize("rho", [0.7, 1.0, 3.0])
def test_polyexponential(rho: float) -> None:
    low, high = LEVELS.sigmas[[0, -1]].tolist()
    assert torch.allclose(
        polyexponential(LEVELS, 20, rho), k_diffusion().get_sigmas_polyexponential(20, low, high, rho), rtol=1e-5
    )


def test_align_your_steps() -> None:
    """diffusers tells ten steps, the lowest level among them."""
    from diffusers.schedulers import AysSchedules

    for name, key in (
        ("align_your_steps", "StableDiffusionSigmas"),
        ("align_your_steps_xl", "StableDiffusionXLSigmas"),
    ):
        theirs = AysSchedules[key]
        assert SCHEDULES[name](LEVELS, 11)[: len(theirs) - 1].tolist() == pytest.approx(theirs[:-1])


@pytest.mark.parametrize("alpha", [0.3, 0.6, 2.0])
def test_beta_quantiles(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert beta_quantile(shares, alpha).tolist() == pytest.approx(stats.beta.ppf(shares, alpha, alpha), abs=1e-10)
