"""The training loss against that of diffusers' training scripts: equal weights, noise and timesteps; at most 1e-5."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from daguerre.checkpoints.writer import write_diffusers
from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.prediction import Epsilon, Velocity
from daguerre.text.tokenizer import tokenizer_files
from daguerre.train.config import Objective
from daguerre.train.objective import DenoisingObjective
from daguerre.train.outputs import describe
from tests.toy import toy

diffusers = pytest.importorskip("diffusers")
training_utils = pytest.importorskip("diffusers.training_utils")
GAMMA = 2.0  # of min-SNR: less than usual, so that more of the timesteps are clamped
TRAINED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KINDS = {"epsilon": (Epsilon, "epsilon"), "v": (Velocity, "v_prediction")}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Our U-Net, and diffusers' with the same weights."""
    model = toy("sd1")
    folder: Path = tmp_path_factory.mktemp("model") / "toy"
    states = {name: part.state_dict() for name, part in model.parts.items()}
    write_diffusers(folder, states, describe(model), tokenizer_files())
    theirs = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet", local_files_only=True)
    return model.unet.requires_grad_(True), theirs.train()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, noise, timesteps from end to end of the ladder, text features."""
    rng = torch.Generator().manual_seed(4)
    x0, noise = torch.randn(2, 6, 4, 8, 8, generator=rng)
    return x0, noise, torch.tensor([0, 40, 200, 500, 800, 999]), torch.randn(6, 77, 32, generator=rng)


@pytest.mark.parametrize("weighting", ["plain", "min_snr"])
@pytest.mark.parametrize("prediction", KINDS)
def test_losses_and_gradients_are_those_of_diffusers(networks, batch, prediction: str, weighting: str) -> None:
    unet, their_unet = networks
    x0, noise, t, text = batch
    kind, their_kind = KINDS[prediction]
    levels = toy("sd1").levels
    objective = DenoisingObjective(Objective(weighting=weighting, gamma=GAMMA), prediction, levels)
    ours = objective(kind(unet, levels), x0, Cond(text), noise, levels.sigmas[t])

    scheduler = diffusers.DDPMScheduler(**TRAINED, prediction_type=their_kind)
    output = their_unet(scheduler.add_noise(x0, noise, t), t, text).sample
    target = noise if prediction == "epsilon" else scheduler.get_velocity(x0, noise, t)
    theirs = F.mse_loss(output, target, reduction="none").mean(dim=(1, 2, 3))
    if weighting == "min_snr":
        snr = training_utils.compute_snr(scheduler, t)
        theirs = theirs * snr.clamp(max=GAMMA) / (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    (gradient,) = torch.autograd.grad(ours.mean(), unet.conv_out.weight)
    (their_gradient,) = torch.autograd.grad(theirs.mean(), their_unet.conv_out.weight)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-5)
    assert gradient.abs().max() > 1e-2
