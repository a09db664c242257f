from dataclasses import replace
from functools import cache
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre.families.loading import load_model
from daguerre.generate.drawing import to_image
from daguerre.generate.preview import linear, preview
from daguerre.train.contact_sheet import to_tensor
from tests.generate.test_upscale import drawing, psnr
from tests.toy import toy


@cache
def tintype():
    return load_model(files("daguerre") / "weights" / "tintype.safetensors", device="cpu", dtype="float32")


@cache
def latents():
    with torch.no_grad():
        return tintype().vae.encode(to_tensor(drawing(128)))


def test_it_looks_like_the_decoded_picture():
    with torch.no_grad():
        decoded = to_image(tintype().vae.decode(latents()))
    made = preview(tintype(), latents())
    assert made.size == decoded.size
    assert psnr(made, decoded) > 20
    coarse = to_image(linear(latents(), tintype().vae.config.scale)).resize((128, 128), Image.BICUBIC)
    assert psnr(made, decoded) > psnr(coarse, decoded) + 2


def test_the_linear_map_gives_the_colors():
    rough = to_image(linear(latents(), tintype().vae.config.scale))
    assert rough.size == (16, 16)
    assert psnr(rough, drawing(128).reduce(8)) > 18


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_other_families_have_a_map(family):
    model = toy(family)
    model.vae.config = replace(model.vae.config, scale=0.13025 if family == "sdxl" else 0.18215)
    made = preview(model, torch.randn(1, 4, 6, 5))
    assert (made.mode, made.size) == ("RGB", (5, 6))
    bright, dark = (np.asarray(preview(model, torch.tensor([n, 0, 0, 0.0]).view(1, 4, 1, 1))) for n in (2.0, -2.0))
    assert (bright > dark).all()


def test_latents_without_a_map_are_shades_of_gray():
    model = toy()
    model.vae.config = replace(model.vae.config, scale=0.5)
    red, green, blue = np.asarray(preview(model, torch.randn(1, 4, 3, 3))).transpose(2, 0, 1)
    assert (red == green).all()
    assert (red == blue).all()
