from copy import deepcopy

import pytest
import torch
from torch import nn

from daguerre.models.vae import VAE, VAEConfig
from daguerre.runtime.bands import decode_in_bands

from .memory import peak


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    vae = VAE(VAEConfig(channels=(16, 32, 32), groups=8)).eval().requires_grad_(False)
    for p in vae.parameters():
        p.mul_(1.3) if p.ndim > 1 else p.add_(0.2 * torch.randn_like(p))
    return vae


@pytest.mark.parametrize("rows", [1, 3, 8, 13, 1000])
def test_bands_give_the_same_picture(vae, rows):
    z = torch.randn(2, 4, 13, 9, generator=torch.Generator().manual_seed(1))
    plain = vae.decode(z)
    torch.testing.assert_close(decode_in_bands(vae, z, rows), plain, rtol=0, atol=1e-5)
    assert plain.std() > 0.1  # the network does something


@pytest.mark.parametrize("rows", [1, 5, 8, 1000])
def test_rows_that_meet_do_so_over_bands(vae, rows):
    z = torch.randn(1, 4, 16, 6, generator=torch.Generator().manual_seed(3))
    plain, endless = vae.decode(z), deepcopy(vae)
    for layer in endless.decoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "circular"
    whole, endless.rows_meet = endless.decode(z), True
    torch.testing.assert_close(decode_in_bands(endless, z, rows), whole, rtol=0, atol=1e-5)
    assert (whole - plain).abs().max() > 0.1


def test_bands_give_the_same_picture_in_half_precision(vae):
    """To the rounding of bfloat16: as near to float32 as the plain decoding is."""
    z = torch.randn(1, 4, 13, 9, generator=torch.Generator().manual_seed(1))
    exact = vae.decode(z)
    half = VAE(vae.config).requires_grad_(False)
    half.load_state_dict(vae.state_dict())
    half.bfloat16()
    banded = decode_in_bands(half, z.bfloat16(), 5)
    assert banded.dtype == torch.bfloat16
    assert (banded - exact).abs().mean() < 1.2 * (half.decode(z.bfloat16()) - exact).abs().mean()


def test_bands_take_half_the_memory(vae):
    z = torch.randn(1, 4, 64, 64)
    assert peak(lambda: decode_in_bands(vae, z, 8)) < 0.55 * peak(lambda: vae.decode(z))


def test_a_band_has_a_row(vae):
    with pytest.raises(ValueError, match="rows is 0"):
        decode_in_bands(vae, torch.zeros(1, 4, 8, 8), 0)
