from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre import ImageToImage, image_to_image
from daguerre.diffusion.denoiser import Step
from daguerre.generate.drawing import Picture, to_image
from daguerre.generate.given import fitted, opaque, to_pixels, upright, with_size_of
from daguerre.request import RequestError
from tests.generate.test_upscale import drawing
from tests.toy import toy as built

toy = cache(built)
REQUEST = ImageToImage(prompt="a red apple", steps=3, strength=0.5, seed=7)


def draw(request=REQUEST, image=None, model=None):
    events = image_to_image(model or toy(), request, image or drawing(64))
    return [event for event in events if isinstance(event, Picture)]


def pixels(request=REQUEST, image=None, model=None):
    return np.asarray(draw(request, image, model)[0].image, float)


def test_the_strength_tells_how_far_the_picture_goes_from_the_given_one():
    with torch.no_grad():
        seen = to_image(toy().vae.decode(toy().vae.encode(to_pixels(drawing(64)))))
    made = [pixels(replace(REQUEST, strength=strength)) for strength in (0.0, 0.5, 1.0)]
    small, middle, large = (np.abs(picture - np.asarray(seen, float)).mean() for picture in made)
    assert small < middle < large


def test_it_takes_the_steps_of_the_strength_and_the_same_seed_gives_the_same_bits():
    events = list(image_to_image(toy(), REQUEST, drawing(64)))
    assert [type(event) for event in events] == [Step] * 2 + [Picture]
    record = events[-1].record
    assert draw()[0].record.pixel_sha256 == record.pixel_sha256
    assert draw(replace(REQUEST, seed=8))[0].record.pixel_sha256 != record.pixel_sha256
    assert [used.role for used in record.pictures] == ["image"]
    assert (record.request.width, record.request.height) == (64, 64)


@pytest.mark.parametrize("change", [{"strength": 0.0}, {"strength": 0.75, "exact_steps": True}])
def test_one_step_that_would_keep_nothing_is_refused(change):
    with pytest.raises(
        RequestError, match=r"in 1 step all of the picture is drawn anew, at strength 0.* as at 1; take"
    ):
        draw(replace(REQUEST, steps=1, **change))
    draw(replace(REQUEST, steps=1, strength=1.0))
    draw(replace(REQUEST, steps=1, strength=0.5, exact_steps=True))


def test_the_given_picture_and_the_prompt_reach_the_result():
    changes = ({}, {"prompt": "two dogs"}, {"noise_multiplier": 0.5}, {"exact_steps": True})
    made = [pixels(replace(REQUEST, **change)) for change in changes]
    made.append(pixels(image=drawing(64).rotate(90)))
    assert all(not np.array_equal(a, b) for a, b in combinations(made, 2))


def test_a_batch_draws_what_each_seed_draws_alone():
    batch = draw(replace(REQUEST, count=2))
    alone = draw(replace(REQUEST, seed=8))
    assert batch[1].record.pixel_sha256 == alone[0].record.pixel_sha256


def test_inpainting_networks_draw_over_pictures_too():
    assert pixels(model=toy("sd1-inpaint")).shape == (64, 64, 3)


def test_transparency_lies_on_white():
    clear = drawing(64, "RGBA")
    white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    assert opaque(clear).tobytes() == white.tobytes()


def test_pictures_of_any_mode_are_upright_and_have_eight_bits():
    deep = Image.fromarray(np.full((2, 3), 65535 // 2, np.uint16))
    assert upright(deep).getpixel((0, 0)) == (127, 127, 127)
    assert upright(Image.new("F", (2, 3), 1.0)).getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("L", (20, 30))
    turned.getexif()[0x0112] = 6
    assert upright(turned).size == (30, 20)
    for mode in ("1", "L", "P", "CMYK", "HSV", "YCbCr", "RGB"):
        assert upright(Image.new(mode, (3, 2))).mode == "RGB"


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((130, 97), {}, (128, 96)),
        ((20, 40), {}, (64, 128)),  # too small to be drawn as it is
        ((100, 50), {"width": 400}, (400, 200)),
        ((100, 50), {"height": 400}, (800, 400)),
        ((100, 50), {"width": 64, "height": 64}, (64, 64)),
    ],
)
def test_sizes_that_are_not_given_are_those_of_the_picture(size, asked, expected):
    sized = with_size_of(replace(REQUEST, **asked), size)
    assert (sized.width, sized.height) == expected


def test_a_picture_too_large_to_be_drawn_is_refused_with_its_size():
    with pytest.raises(RequestError, match=r"5000 x 300 pixels.*give a width and a height"):
        draw(image=Image.new("RGB", (5000, 300)))
    request = replace(REQUEST, width=64, height=64, resize="latent")
    with pytest.raises(RequestError, match=r"5000 x 300 pixels.*resize it in another way than latent"):
        draw(request, Image.new("RGB", (5000, 300)))


def test_the_ways_to_another_shape():
    striped = np.zeros((4, 8, 3), np.uint8)
    striped[:, 2:6] = 200
    image = Image.fromarray(striped).resize((80, 40), Image.Resampling.NEAREST)
    stretched, cropped, filled = (np.asarray(fitted(image, (40, 40), how)) for how in ("stretch", "crop", "fill"))
    assert (stretched[:, [0, 39]] < 5).all()
    assert (cropped > 195).all()
    assert (filled[[0, 39], 20] > 190).all()  # the edges of the whole picture, drawn out
    assert (filled[[0, 39], 0] < 5).all()
    assert fitted(Image.new("RGB", (3000, 8), "red"), (128, 128), "fill").getcolors() == [(128 * 128, (255, 0, 0))]


def test_the_latent_way_goes_by_latents_and_not_by_pixels():
    made = {how: pixels(replace(REQUEST, width=96, height=96, resize=how)) for how in ("stretch", "latent")}
    assert made["latent"].shape == (96, 96, 3)
    assert not np.array_equal(made["latent"], made["stretch"])
