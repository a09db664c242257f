"""The samplers against k-diffusion and diffusers: the same toy network, the same noise, 20 steps and more."""

import pytest
import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Cond, VarianceExploding
from daguerre.diffusion.guidance import ClassifierFree, Guided
from daguerre.diffusion.guidance.finishes import Rescale
from daguerre.diffusion.noise import fresh, initial
from daguerre.diffusion.prediction import Epsilon, Velocity
from daguerre.diffusion.samplers import SAMPLERS
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


@pytest.fixture(scope="module")
def reference():
    """k-diffusion's samplers."""
    return k_diffusion()


def ours(name, sigmas, denoise, noise, x=None) -> Tensor:
    spec, process = SAMPLERS[name], VarianceExploding()
    x = spec.start(initial([SEED], SHAPE), sigmas[0], process) if x is None else x
    *_, step = spec.sample(denoise, x, sigmas, COND, process=process, noise=noise)
    return step.x


@pytest.mark.parametrize("schedule", ["automatic", "karras", "exponential", "sgm_uniform", "turbo"])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Euler", "sample_euler"),
        ("Euler a", "sample_euler_ancestral"),
        ("Heun", "sample_heun"),
        ("DPM++ 2S a", "sample_dpmpp_2s_ancestral"),
        ("DPM++ 2M", "sample_dpmpp_2m"),
        ("DPM++ 2M SDE", "sample_dpmpp_2m_sde"),
        ("DPM++ SDE", "sample_dpmpp_sde"),
    ],
)
def test_k_diffusion(reference, name: str, function: str, schedule: str) -> None:
    sigmas = SCHEDULES[schedule](LEVELS, 20)
    denoise = Epsilon(network, LEVELS)
    stochastic = {} if name in ("Euler", "Heun", "DPM++ 2M") else {"noise_sampler": smooth_noise}
    x = initial([SEED], SHAPE) * sigmas[0]
    theirs = getattr(reference, function)(
        lambda x, sigma: denoise(x, sigma, COND), x, sigmas, disable=True, **stochastic
    )
    assert relative(ours(name, sigmas, denoise, smooth_noise), theirs) < 1e-5


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Euler a", "sample_euler_ancestral"),
        ("DPM++ 2S a", "sample_dpmpp_2s_ancestral"),
        ("DPM++ 2M SDE", "sample_dpmpp_2m_sde"),
        ("DPM++ SDE", "sample_dpmpp_sde"),
    ],
)
def test_k_diffusion_with_less_noise(reference, name: str, function: str, eta: float) -> None:
    sigmas = SCHEDULES["karras"](LEVELS, 20)
    denoise = Epsilon(network, LEVELS)
    x = initial([SEED], SHAPE) * sigmas[0]
    theirs = getattr(reference, function)(
        lambda x, sigma: denoise(x, sigma, COND), x, sigmas, disable=True, eta=eta, noise_sampler=smooth_noise
    )
    steps = SAMPLERS[name].sample(denoise, x, sigmas, COND, VarianceExploding(), smooth_noise, eta=eta)
    assert relative(list(steps)[-1].x, theirs) < 1e-5


@pytest.mark.parametrize(
    ("schedule", "spacing", "steps"),
    # 28 fall on whole timesteps; between them diffusers is linear in sigma, we and k-diffusion in its log.
    [("automatic", {"timestep_spacing": "linspace"}, 28), ("turbo", {"timestep_spacing": "trailing"}, 20)],
)
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("Euler", "EulerDiscreteScheduler"),
        ("Euler a", "EulerAncestralDiscreteScheduler"),
        ("Heun", "HeunDiscreteScheduler"),
    ],
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_diffusers(name: str, scheduler: str, schedule: str, spacing, steps: int, prediction: str) -> None:
    theirs = getattr(diffusers, scheduler)(**TRAINED, **spacing, prediction_type=prediction)
    levels = ladder(theirs)
    denoise = (Epsilon if prediction == "epsilon" else Velocity)(network, levels)
    found = ours(name, SCHEDULES[schedule](levels, steps), denoise, fresh([SEED], SHAPE))
    options = {"generator": continued()} if name == "Euler a" else {}
    assert relative(found, pipeline(theirs, steps, **options)) < 1e-5


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [10, 20, 37])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddim(prediction: str, steps: int, eta: float) -> None:
    """As Stable Diffusion's scheduler is configured, from unit noise to the lowest trained level."""
    theirs = diffusers.DDIMScheduler(
        **TRAINED, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    levels, spec, process = ladder(theirs), SAMPLERS["DDIM"], VarianceExploding()
    denoise = (Epsilon if prediction == "epsilon" else Velocity)(network, levels)
    sigmas = spec.sigmas("ddim_uniform", levels, steps)
    x = spec.start(initial([SEED], SHAPE), sigmas[0], process)
    found = list(spec.sample(denoise, x, sigmas, COND, process, fresh([SEED], SHAPE), eta=eta))[-1].x
    assert relative(found, pipeline(theirs, steps, eta=eta, generator=continued())) < 1e-5
    # With our own, more exact ladder too, within what a picture can show.
    denoise = (Epsilon if prediction == "epsilon" else Velocity)(network, LEVELS)
    sigmas = spec.sigmas("ddim_uniform", LEVELS, steps)
    exact = list(spec.sample(denoise, x, sigmas, COND, process, fresh([SEED], SHAPE), eta=eta))[-1].x
    assert (exact - found).abs().max() < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_lcm(steps: int) -> None:
    """Where its 50 distilled timesteps are those of trailing spacing, and with its boundary made sharp."""
    theirs = diffusers.LCMScheduler(
        **TRAINED, clip_sample=False, set_alpha_to_one=False, original_inference_steps=50, timestep_scaling=1e4
    )
    theirs.set_timesteps(steps)
    levels = ladder(theirs)
    sigmas = SCHEDULES["turbo"](levels, steps)
    assert levels.timestep(sigmas[:-1]).tolist() == theirs.timesteps.tolist()
    unit = initial([SEED], SHAPE) * (1 + sigmas[0] ** 2).sqrt()  # as that pipeline starts
    found = ours("LCM", sigmas, Epsilon(network, levels), fresh([SEED], SHAPE), unit)
    assert relative(found, pipeline(theirs, steps, generator=continued())) < 1e-5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_guidance_rescale(prediction: str) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    theirs = diffusers.DDIMScheduler(
        **TRAINED, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    positive, negative = torch.full((1, 2, 3), 0.8), torch.full((1, 2, 3), -0.5)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        p, n = network(x, t, positive), network(x, t, negative)
        return rescale_noise_cfg(n + 7.5 * (p - n), p, guidance_rescale=0.7)

    levels, spec, process = ladder(theirs), SAMPLERS["DDIM"], VarianceExploding()
    inner = (Epsilon if prediction == "epsilon" else Velocity)(network, levels)
    denoise = Guided(ClassifierFree(inner, Cond(negative), 7.5), finishes=(Rescale(0.7, inner.c_skip),))
    sigmas = spec.sigmas("ddim_uniform", levels, 20)
    x = spec.start(initial([SEED], SHAPE), sigmas[0], process)
    *_, step = spec.sample(denoise, x, sigmas, Cond(positive), process, fresh([SEED], SHAPE))
    assert relative(step.x, pipeline(theirs, 20, guided)) < 1e-5
