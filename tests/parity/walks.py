"""What comparisons of samplers share: k-diffusion's functions, a toy network, the loop of a diffusers pipeline."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.noise import initial
from daguerre.diffusion.schedule import NoiseLevels, scaled_linear

COND = Cond(torch.zeros(1, 1, 1))
SHAPE = (4, 16, 16)
SEED = 20
LEVELS = scaled_linear()
TRAINED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def k_diffusion() -> types.ModuleType:
    """k-diffusion's samplers alone: importing the package itself needs torchvision."""
    for module in ("torchsde", "torchdiffeq", "scipy", "tqdm"):
        pytest.importorskip(module)
    package = importlib.util.find_spec("k_diffusion")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed")
    utils = types.ModuleType("k_diffusion_alone.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    sys.modules.update({"k_diffusion_alone": types.ModuleType("k_diffusion_alone"), utils.__name__: utils})
    sys.modules["k_diffusion_alone"].utils = utils
    file = Path(package.submodule_search_locations[0]) / "sampling.py"
    spec = importlib.util.spec_from_file_location("k_diffusion_alone.sampling", file)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def network(x: Tensor, t: Tensor, tokens: Tensor = COND.tokens, vector: Tensor | None = None) -> Tensor:
    """Bends its input, more so at early timesteps."""
    mixed = x + 0.3 * x.roll(1, -1) - 0.2 * x.roll(2, 1)
    return (mixed * (1 + t.reshape(-1, 1, 1, 1) / 999) + tokens.mean((1, 2)).reshape(-1, 1, 1, 1)).tanh()


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def smooth_noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Noise that depends on the interval, but not on the last bit of its ends."""
    first, second = initial([1], SHAPE), initial([2], SHAPE)
    return first * torch.cos(sigma) + second * torch.sin(sigma_next)


def pipeline(scheduler, steps: int, predict=network, **options) -> Tensor:
    """The loop of a diffusers pipeline around a scheduler, from the same first draw as ours."""
    scheduler.set_timesteps(steps)
    x = initial([SEED], SHAPE) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = predict(scheduler.scale_model_input(x, t), t.float().reshape(1))
        x = scheduler.step(output, t, x, **options).prev_sample
    return x


def continued() -> torch.Generator:
    """The generator of the picture after its first draw."""
    generator = torch.Generator().manual_seed(SEED)
    torch.randn(SHAPE, generator=generator)
    return generator


def ladder(scheduler) -> NoiseLevels:
    """The scheduler's own levels, which it rounds more coarsely than ours: 1 - alpha_bar in float32."""
    return NoiseLevels((1 / scheduler.alphas_cumprod.double() - 1).sqrt().float())
