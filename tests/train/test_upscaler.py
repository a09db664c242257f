from itertools import islice

import pytest
import torch

from daguerre.models.enlarger import Enlarger, EnlargerConfig
from daguerre.models.vae import VAE
from daguerre.train import loop
from daguerre.train.upscaler import Damage, UpscalerRecipe, blurred, compress, eight_bits, psnr, redrawn, reduced
from tests.train import toys
from tests.train.line import finish, quick, state

NETWORK = EnlargerConfig(width=16, blocks=1)


def recipe(pictures, crop=4, **damage):
    torch.manual_seed(0)
    soft = torch.nn.functional.avg_pool2d(pictures.pixels.float(), 4).round().byte()
    pair = pictures.pixels, soft
    return UpscalerRecipe(Enlarger(NETWORK), pair, (pair[0][:4], pair[1][:4]), Damage(crop=crop, **damage), 4, 0)


def test_the_loss_falls_and_held_out_pictures_get_better(tmp_path, pictures):
    made = recipe(pictures, crop=8, recolor=0.0, blur=0.0, compression=0.0)
    for parameter in made.trained.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    before = made.held_out()
    assert before["reduced"] == pytest.approx(before["reduced, bicubic"])
    records = finish(made, quick(5e-3, steps=120, save_every=1000), tmp_path)
    first, last = (sum(r["loss"] for r in part) for part in (records[:20], records[-20:]))
    assert last < 0.8 * first
    after = made.held_out()
    assert after["reduced"] > after["reduced, bicubic"] + 1
    assert after["redrawn, bicubic"] == before["redrawn, bicubic"]


def test_a_batch_in_two_parts_is_the_same_batch(pictures):
    made = recipe(pictures)
    whole = list(made._pairs(3, range(4)))
    parts = [*made._pairs(3, range(2)), *made._pairs(3, range(2, 4))]
    assert all(torch.equal(a, b) for one, two in zip(whole, parts, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(whole[0][0], next(iter(made._pairs(4, range(1))))[0])


def test_resume_is_exact(tmp_path, pictures):
    finish(recipe(pictures), quick(), tmp_path / "whole")
    begun = loop.train(recipe(pictures), quick(), tmp_path / "parts")
    list(islice(begun, 3))
    begun.close()
    finish(recipe(pictures), quick(), tmp_path / "parts")
    one, two = (state(tmp_path / name)["weights"] for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_input_and_target_show_the_same(pictures):
    made = recipe(pictures, compression=0.0, blur=0.0)
    for low, high in made._pairs(0, range(4)):
        assert (low.shape, high.shape) == ((3, 4, 4), (3, 16, 16))
        assert (reduced(high, 4, "area") - low).abs().mean() < 0.1


def test_samples(tmp_path, pictures):
    recipe(pictures).sample(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists()


def test_what_is_done_to_pictures():
    picture = torch.rand(3, 16, 16) * 2 - 1
    flat = torch.full((3, 8, 8), 0.25)
    torch.testing.assert_close(blurred(flat, 0.7), flat)
    assert blurred(picture, 0.8).diff().abs().mean() < 0.8 * picture.diff().abs().mean()
    for mode in ("area", "bilinear", "bicubic"):
        assert reduced(picture, 4, mode).shape == (3, 4, 4)
    rounded = eight_bits(picture)
    assert 0 < (rounded - picture).abs().max() <= 1 / 255
    assert torch.equal(eight_bits(rounded), rounded)
    rng = torch.Generator().manual_seed(0)
    assert 0 < (compress(rounded, rng) - rounded).abs().mean() < 0.5


def test_psnr():
    real = torch.zeros(2, 3, 4, 4)
    assert psnr(real + 0.2, real) == pytest.approx(20, abs=1e-3)  # a tenth of the range


def test_what_the_vae_makes_of_pictures_is_kept(tmp_path, pictures):
    torch.manual_seed(0)
    vae = VAE(toys.ARCHITECTURE.vae)
    first = redrawn(vae, pictures, 2, 0.3, tmp_path / "soft.safetensors")
    assert first.shape == (len(pictures), 3, 16, 16)
    assert torch.equal(redrawn(vae, pictures, 2, 0.9, tmp_path / "soft.safetensors"), first)
    assert not torch.equal(redrawn(vae, pictures, 2, 0.0, tmp_path / "other.safetensors"), first)
