from dataclasses import replace
from functools import cache

import pytest
import torch

from daguerre import Edit, edit
from daguerre.diffusion.denoiser import Cond
from daguerre.generate.drawing import Picture
from daguerre.generate.edit import TowardsPicture
from daguerre.request import RequestError
from tests.generate.test_upscale import drawing
from tests.toy import toy as built

toy = cache(built)
REQUEST = Edit(prompt="make it snow", steps=1, seed=7)


def sha256(request=REQUEST, image=None):
    events = edit(toy("sd1-edit"), request, image or drawing(64))
    return next(event for event in events if isinstance(event, Picture)).record.pixel_sha256


def test_everything_reaches_the_picture():
    changes = ({}, {"image_cfg_scale": 1.0}, {"image_cfg_scale": 3.0}, {"prompt": "make it rain"}, {"steps": 2},
               {"steps": 2, "strength": 0.5}, {"negative_prompt": "dark"})  # fmt: skip
    made = [sha256(replace(REQUEST, **change)) for change in changes]
    made.append(sha256(image=drawing(64).rotate(90)))
    assert len(set(made)) == len(made)
    assert sha256() == made[0]


def test_guidance_is_that_of_the_paper():
    """Equation 3, with a network whose output tells what it was given."""

    def network(x, t, tokens, vector):
        return x[:, :4] * 0 + tokens.mean((1, 2)).view(-1, 1, 1, 1) + 10 * x[:, 4:].mean((1, 2, 3), keepdim=True) ** 2

    picture, tokens = torch.ones(1, 4, 2, 2), torch.stack([torch.full((3, 5), value) for value in (2.0, 1.0)])
    negative = Cond(tokens[1:], None, picture)
    both = TowardsPicture(network, negative, 3.0)(
        torch.cat([torch.zeros(2, 4, 2, 2), picture.expand(2, -1, -1, -1)], 1), torch.zeros(2), tokens, None
    )
    guided = both[1] + 7 * (both[0] - both[1])
    blind, seen, told = 1.0, 11.0, 12.0
    assert guided.unique().tolist() == [blind + 3 * (seen - blind) + 7 * (told - seen)]
    longer = torch.cat([tokens, tokens], 1)  # of another length than the negative prompt
    alone = TowardsPicture(network, negative, 3.0)(torch.zeros(2, 8, 2, 2), torch.zeros(2), longer, None)
    assert alone[:, 0, 0, 0].tolist() == [2 + 2 * 10, 1 + 2 * 10]


def test_another_model_is_refused():
    with pytest.raises(RequestError, match="does not edit by instruction"):
        next(edit(toy(), REQUEST, drawing(64)))
