from dataclasses import replace
from functools import cache
from itertools import zip_longest

import numpy as np
import pytest
import torch
from torch import nn

from daguerre import Hires, text_to_image
from daguerre.diffusion.denoiser import Cond
from daguerre.generate.drawing import Picture
from daguerre.generate.given import encoded
from daguerre.generate.tiled_upscale import tiled_upscale
from daguerre.generate.tiling import tiled
from daguerre.request import RequestError, TiledUpscale
from tests.generate.test_text_to_image import REQUEST, draw, hashes
from tests.generate.test_upscale import drawing
from tests.toy import toy as built

toy = cache(built)


def outputs(model, x, z):
    """Of the U-Net and the decoder."""
    cond = Cond(torch.zeros(1, 77, 32))
    return model.denoiser()(x, torch.tensor(3.0), cond), model.decode(z)


@pytest.mark.parametrize(("way", "axes"), [("x", [3]), ("y", [2]), ("both", [2, 3])])
def test_networks_no_longer_know_where_the_edges_are(way, axes):
    model, shifts = toy(), {2: 4, 3: 6}
    x, z = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    turn = {"shifts": [shifts[axis] for axis in axes], "dims": axes}
    endless = tiled(model, replace(REQUEST, tiling=way))
    made, moved = outputs(endless, x, z), outputs(endless, x.roll(**turn), z.roll(**turn))
    for a, b, factor in zip(made, moved, (1, 8), strict=True):
        rolled = a.roll([n * factor for n in turn["shifts"]], axes)
        torch.testing.assert_close(rolled, b, atol=1e-4, rtol=1e-4)
    plain, shifted = outputs(model, x, z), outputs(model, x.roll(**turn), z.roll(**turn))
    assert (plain[0].roll(**turn) - shifted[0]).abs().max() > 1e-2  # which the networks otherwise do


def test_a_picture_has_edges_that_meet_and_the_encoder_too():
    model = toy()
    assert len({hashes(model, replace(REQUEST, tiling=way))[0] for way in ("off", "x", "y", "both")}) == 4
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    a, b = (encoded(tiled(model, replace(REQUEST, tiling="both")), x) for x in (image, image.roll((16, 24), (2, 3))))
    torch.testing.assert_close(a.roll((2, 3), (2, 3)), b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tiling", ["x", "both"])
def test_pictures_that_are_drawn_beside_one_another_are_those_drawn_alone(tiling):
    """One waits while another is drawn by the same networks, or both take turns."""
    model = toy()
    requests = [
        replace(REQUEST, tiling=way, hires=Hires(scale=1.5, upscaler="Lanczos")) for way in (tiling, "off", "y")
    ]
    alone = [hashes(model, request)[0] for request in requests]
    drawings = [text_to_image(model, request) for request in requests]
    next(drawings[0])
    assert hashes(model, requests[1]) == [alone[1]]
    turns = zip(*zip_longest(*drawings), strict=True)
    made = [[event for event in events if isinstance(event, Picture)] for events in turns]
    assert [picture.record.pixel_sha256 for (picture,) in made] == alone


def test_tiles_wait_as_well():
    model, request = toy(), TiledUpscale(prompt="a hill", steps=2, seed=1, tile=64, upscaler="Lanczos", tiling="both")
    plain = hashes(model)
    waiting = tiled_upscale(model, request, drawing(64))
    next(waiting)
    assert hashes(model) == plain


def test_an_error_leaves_nothing_attached():
    model = toy()
    with pytest.raises(ZeroDivisionError), tiled(model, replace(REQUEST, tiling="both")).on_device("vae"):
        1 / 0  # noqa: B018
    assert not model.vae.rows_meet
    for module in (*model.unet.modules(), *model.vae.modules()):
        if isinstance(module, nn.Conv2d | nn.ZeroPad2d):
            assert not {"_conv_forward", "forward"} & vars(module).keys()


def test_sides_that_cannot_be_halved_evenly_are_refused():
    with pytest.raises(RequestError, match="width is 72; with tiling it must be a multiple of 16"):
        draw(toy(), replace(REQUEST, width=72, tiling="x"))
    assert np.asarray(draw(toy(), replace(REQUEST, width=72, tiling="y"))[0].image).shape == (64, 72, 3)


@pytest.mark.parametrize("way", ["x", "y", "both"])
def test_edges_meet_in_low_memory_too(way):
    request = replace(REQUEST, tiling=way, height=192)  # 24 rows of latents: more than a band
    whole, lean = (np.asarray(draw(built(low_memory=low), request)[0].image, float) for low in (False, True))
    plain = np.asarray(draw(built(low_memory=True), replace(request, tiling="off"))[0].image, float)
    assert abs(whole - lean).max() <= 1
    assert abs(whole - plain).max() > 8


def test_an_unknown_direction_is_refused():
    with pytest.raises(RequestError, match="tiling is 'z'; choose one of off, x, y, both"):
        replace(REQUEST, tiling="z")
