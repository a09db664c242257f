"""The VAE against diffusers' at toy width, random weights, through the key table; float32, 1e-5 relative."""

import diffusers
import pytest
import torch

from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.tables import blank
from daguerre.files.checkpoint import Checkpoint

from .test_unet import opened

LIMIT = 1e-5  # of the largest value: diffusers' attention adds in another order


def worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.fixture
def pair() -> tuple[torch.nn.Module, diffusers.AutoencoderKL, Checkpoint]:
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=8,
        latent_channels=4,
        scaling_factor=0.13025,
    ).eval()
    checkpoint = opened(theirs, theirs.to_json_string())
    identity = identify(checkpoint)
    assert identity.family == "vae"
    assert identity.vae is not None
    assert (identity.vae.scale, identity.vae.groups) == (0.13025, 8)
    assert (identity.missing, identity.extra) == ((), ())
    ours = blank(identity.vae).eval()
    ours.load_state_dict(read_component(checkpoint, identity, "vae"), assign=True)
    return ours, theirs, checkpoint


@torch.no_grad()
def test_mean_sample_and_pixels_are_equal_to_those_of_diffusers(pair) -> None:
    ours, theirs, _ = pair
    image = torch.rand(2, 3, 32, 48) * 2 - 1
    posterior = theirs.encode(image).latent_dist
    assert worst(ours.encode(image), posterior.mean * 0.13025) <= LIMIT

    noise = torch.randn(posterior.mean.shape)
    sample = posterior.mean + posterior.std * noise
    assert worst(ours.encode(image, noise), sample * 0.13025) <= LIMIT
    assert worst(posterior.mean, sample) > 0.01, "the noise must matter for this to be a test"
    assert worst(ours.decode(sample * 0.13025), theirs.decode(sample).sample) <= LIMIT
