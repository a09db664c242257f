from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image

from daguerre import Outpaint, outpaint
from daguerre.diffusion.denoiser import Step
from daguerre.generate.drawing import Picture
from daguerre.generate.masks import reach
from daguerre.generate.outpaint import planned
from daguerre.request import RequestError
from tests.generate.test_upscale import drawing
from tests.toy import toy as built

toy = cache(built)
REQUEST = Outpaint(prompt="a red apple", steps=1, seed=7, width=64, height=64, mask_blur=2)


def draw(request, image):
    return next(event for event in outpaint(toy(), request, image) if isinstance(event, Picture))


@pytest.mark.parametrize("sides", [{"left": 24}, {"right": 20}, {"up": 8}, {"down": 13}, {"left": 5, "down": 40}])
def test_the_given_picture_stays_as_it_was_beyond_the_soft_band(sides):
    image, request = drawing(64).crop((0, 0, 60, 50)), replace(REQUEST, **sides)
    made = draw(request, image).image
    left, up = request.left, request.up
    assert made.size == (60 + left + request.right, 50 + up + request.down)
    inner = np.asarray(made)[up : up + 50, left : left + 60]
    apart, far = (inner != np.asarray(image)).any(axis=2), reach(2)
    near = np.zeros((50, 60), bool)
    near[:far] |= bool(request.up)
    near[-far:] |= bool(request.down)
    near[:, :far] |= bool(request.left)
    near[:, -far:] |= bool(request.right)
    assert not apart[~near].any()
    assert apart[near].any()


def test_what_is_added_is_drawn_and_not_copied():
    image = Image.new("RGB", (64, 64), "teal")
    one, other = (np.asarray(draw(replace(REQUEST, right=32, seed=seed), image).image) for seed in (7, 8))
    assert one[:, 64:].std() > 1
    assert not np.array_equal(one[:, 64:], other[:, 64:])
    assert np.array_equal(one, np.asarray(draw(replace(REQUEST, right=32), image).image))


def test_much_is_added_in_steps_of_at_most_half_a_window():
    plan = planned(replace(REQUEST, right=100), (64, 64), (128, 128))
    assert plan.corners == [(32, 0), (64, 0), (96, 0), (104, 0)]
    assert plan.result == (0, 0, 164, 64)
    events = list(outpaint(toy(), replace(REQUEST, right=100), drawing(64)))
    assert sum(isinstance(event, Step) for event in events) == 4
    made = np.asarray(events[-1].image)
    assert made.shape == (64, 164, 3)
    assert not np.array_equal(made[:, 68:96], made[:, 100:128])  # each window has noise of its own


def test_windows_cover_all_that_is_added_and_see_what_is_known():
    request = replace(REQUEST, left=70, right=30, up=9, down=90)
    plan = planned(request, (150, 61), (64, 64))
    known = np.zeros(plan.canvas[::-1], bool)
    x0, y0, x1, y1 = plan.given
    known[y0:y1, x0:x1] = True
    assert x0 % 8 == y0 % 8 == 0
    for x, y in plan.corners:
        window = known[y : y + 64, x : x + 64]
        assert window.shape == (64, 64)
        assert window.mean() >= 0.4
        window[:] = True
    x0, y0, x1, y1 = plan.result
    assert (x1 - x0, y1 - y0) == (250, 160)
    assert known[y0:y1, x0:x1].all()


def test_a_picture_smaller_than_the_window_is_drawn_on_in_one():
    plan = planned(replace(REQUEST, width=0, height=0, left=64), (64, 64), (128, 128))
    assert (plan.window, plan.canvas, plan.corners) == ((128, 128), (128, 128), [(0, 0)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "nothing is to be added"),
        ({"left": 8, "tiling": "x"}, "tiling is 'x', but .* cannot repeat"),
        ({"left": -8}, "left is -8"),
        ({"left": 4096, "up": 4096, "down": 4096}, None),
    ],
)
def test_nothing_and_too_much_are_refused(change, words):
    with pytest.raises(RequestError, match=words or "the limit is 64 million"):
        next(outpaint(toy(), replace(REQUEST, **change), Image.new("RGB", (3000, 3000))))
