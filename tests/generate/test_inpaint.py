from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from daguerre import Inpaint, inpaint
from daguerre.generate.drawing import Picture
from daguerre.generate.inpaint import Kept, around_mask
from daguerre.generate.masks import continued, joined, mirrored, reach, softened, to_values
from daguerre.request import RequestError
from tests.generate.test_upscale import drawing
from tests.toy import toy as built

toy = cache(built)
REQUEST = Inpaint(prompt="a red apple", steps=2, strength=1.0, seed=7, mask_blur=2)


def masked(size=(64, 64), box=(24, 24, 40, 40), draw=255, keep=0):
    mask = Image.new("L", size, keep)
    ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=draw)
    return mask


def draw(request=REQUEST, image=None, mask=None, model=None):
    events = inpaint(model or toy(), request, image or drawing(64), mask or masked())
    return next(event for event in events if isinstance(event, Picture))


def changed(request=REQUEST, image=None, mask=None, model=None):
    """Where the result differs from the given picture."""
    image = image or drawing(64)
    made = draw(request, image, mask, model).image
    assert made.size == image.size
    return (np.asarray(made) != np.asarray(image.convert("RGB"))).any(axis=2)


@pytest.mark.parametrize("blur", [0, 2, 4])
@pytest.mark.parametrize("family", ["tintype", "sd1-inpaint"])
def test_beyond_the_soft_edge_every_pixel_is_as_it_was(blur, family):
    apart = changed(replace(REQUEST, mask_blur=blur), model=toy(family))
    near = np.zeros((64, 64), bool)
    far = reach(blur)
    near[24 - far : 40 + far, 24 - far : 40 + far] = True
    assert not apart[~near].any()
    assert apart[24:40, 24:40].mean() > 0.9


def test_a_picture_of_any_size_keeps_it_and_its_pixels():
    image = drawing(64).crop((0, 0, 61, 37))
    apart = changed(image=image, mask=masked(image.size, (50, 20, 61, 37)))
    assert apart[22:, 52:].any()
    assert not apart[:14].any()
    assert not apart[:, :44].any()


def test_noise_alone_moves_what_is_kept():
    sigmas, given = torch.tensor([4.0, 2.0, 1.0, 0.0]), torch.zeros(1, 1, 1, 4)
    free = torch.tensor([0.0, 0.34, 0.67, 1.0]).view(1, 1, 1, 4)
    kept = Kept(lambda x, sigma, cond: torch.ones_like(x), given, free, sigmas)
    drawn = [kept(given, sigma, None).flatten().tolist() for sigma in sigmas[:3]]
    assert drawn == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert kept(given, torch.tensor(0.5), None).flatten().tolist() == [0, 1, 1, 1]  # between the last level and 0


def test_differential_masks_change_more_where_they_are_whiter():
    ramp = Image.fromarray(np.repeat(np.linspace(0, 255, 8, dtype=np.uint8), 8)[None].repeat(64, 0))
    request = replace(REQUEST, differential=True, mask_blur=0, steps=8)
    image = Image.new("RGB", (64, 64), "teal")
    made = np.asarray(draw(request, image, ramp).image, float)
    apart = np.abs(made - np.asarray(image, float)).mean(axis=(0, 2))
    assert not apart[:8].any()
    assert apart[8:24].mean() < apart[48:].mean()
    binary = np.asarray(draw(replace(request, differential=False), image, ramp).image)
    assert not np.array_equal(made, binary)


def test_the_ways_to_begin_differ():
    made = {fill: draw(replace(REQUEST, fill=fill, strength=0.5, steps=4)).record.pixel_sha256
            for fill in ("fill", "original", "latent noise", "latent nothing")}  # fmt: skip
    assert len(set(made.values())) == 4


def test_only_the_masked_part_is_drawn_at_full_size_and_pasted_back():
    image, mask = drawing(256), masked((256, 256), (100, 100, 120, 120))
    request = replace(REQUEST, only_masked=True, width=64, height=64, padding=16)
    apart = changed(request, image, mask)
    assert apart[102:118, 102:118].mean() > 0.9
    assert apart.sum() <= (20 + 2 * reach(2)) ** 2
    assert draw(request, image, mask).record.request.width == 64


def test_the_box_around_a_mask_has_the_shape_of_the_drawing():
    mask = masked((200, 100), (90, 45, 110, 55))
    assert around_mask(mask, 5, 1.0) == (85, 35, 115, 65)
    assert around_mask(mask, 0, 2.0) == (90, 45, 110, 55)
    assert around_mask(masked((200, 100), (0, 0, 10, 10)), 0, 4.0) == (0, 0, 40, 10)
    assert around_mask(masked((200, 100), (0, 0, 200, 10)), 0, 1.0) == (0, 0, 200, 100)


def test_transparency_is_a_mask():
    image = drawing(64).convert("RGBA")
    image.putalpha(masked(draw=0, keep=255))
    made = next(e for e in inpaint(toy(), REQUEST, image) if isinstance(e, Picture))
    assert made.image.tobytes() == draw().image.tobytes()
    assert [used.role for used in made.record.pictures] == ["image", "mask"]


def test_an_inverted_mask_draws_the_rest():
    apart = changed(replace(REQUEST, invert=True), mask=masked(draw=0, keep=255))
    assert np.array_equal(apart, changed())


def test_a_size_that_is_given_is_the_size_of_the_result():
    made = draw(replace(REQUEST, width=96, height=96, resize="stretch"))
    assert made.image.size == (96, 96)


def test_a_thin_line_is_drawn_anew():
    apart = changed(replace(REQUEST, mask_blur=0), mask=masked(box=(10, 10, 50, 11)))
    assert apart[10, 10:50].mean() > 0.9
    assert apart.sum() <= 40


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (drawing(64), masked((64, 32)), "the mask has 64 x 32 pixels and the picture 64 x 64"),
        (drawing(64), Image.new("L", (64, 64)), "the mask of 64 x 64 pixels is empty"),
        (drawing(64), None, "there is no mask.*give a mask of 64 x 64"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_before_the_model_runs(image, mask, words):
    with pytest.raises(RequestError, match=words):
        next(inpaint(None, REQUEST, image, mask))


@pytest.mark.parametrize(
    ("side", "change", "words"),
    [
        (64, {"only_masked": True}, "tiling is 'x', but only a part of the picture is drawn"),
        (60, {}, "tiling is 'x', but the picture's 60 x 60 pixels are no multiples of 8"),
    ],
)
def test_edges_that_meet_are_those_of_the_picture_or_refused(side, change, words):
    image, mask = drawing(64).resize((side, side)), masked((side, side))
    with pytest.raises(RequestError, match=words):
        draw(replace(REQUEST, tiling="x", **change), image, mask)
    plain, meeting = (draw(replace(REQUEST, width=96, height=96, tiling=way), image, mask) for way in ("off", "x"))
    assert plain.record.pixel_sha256 != meeting.record.pixel_sha256  # all of it, at another size


def test_the_soft_edge_lies_outside_of_the_mask_and_ends():
    share = softened(to_values(masked()), 4)[0, 0]
    assert (share[24:40, 24:40] == 1).all()
    row = share[32]
    assert (row[:14] == 0).all()
    assert (row[14:24] > 0).all()
    assert (row[15:25] - row[14:24] > 0).all()
    assert torch.equal(softened(to_values(masked()), 0)[0, 0] > 0, to_values(masked())[0, 0] > 0)


def test_joining_with_nothing_new_is_the_old_to_the_bit():
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    old, new = map(Image.fromarray, noise)
    assert joined(old, new, torch.zeros(1, 1, 8, 8)).tobytes() == old.tobytes()
    assert joined(old, new, torch.ones(1, 1, 8, 8)).tobytes() == new.tobytes()


def test_what_is_not_known_continues_the_colors_around_it():
    ramp = torch.linspace(-1, 1, 33).expand(1, 3, 20, 33)
    known = torch.ones(1, 1, 20, 33)
    known[..., 12:20] = 0
    made = continued(ramp, known)
    assert torch.equal(made[..., :12], ramp[..., :12])
    assert (made - ramp).abs().max() < 0.4
    assert not continued(ramp, torch.zeros_like(known)).isnan().any()


def test_what_is_beyond_is_the_mirror_image():
    ramp = torch.linspace(-1, 1, 12).expand(1, 3, 8, 12)
    known = torch.zeros(1, 1, 8, 12)
    known[..., 2:6, 4:] = 1
    made = mirrored(ramp, known)
    assert torch.equal(made[..., 4:], ramp[..., 4:])
    assert torch.equal(made[..., :4], ramp[..., 4:8].flip(-1))
    assert torch.equal(mirrored(ramp, known * 0), ramp)


def test_cfgpp_samplers_keep_what_is_kept():
    apart = changed(replace(REQUEST, sampler="Euler CFG++", cfg_scale=0.8))
    assert apart[24:40, 24:40].mean() > 0.9
    assert not apart[:15].any()
