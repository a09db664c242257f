"""Variation seeds and seed resize, as A1111 has them."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from daguerre.diffusion.noise import centered, initial, spherical
from daguerre.generate.drawing import prepared, settled
from daguerre.request import ImageToImage, RequestError, TextToImage
from tests import toy as toys
from tests.generate.test_text_to_image import REQUEST, draw, hashes

toy = cache(toys.toy)

VARIED = replace(REQUEST, variation_seed=50, variation_strength=0.3)


def test_the_arc_between_two_noises_has_the_length_of_noise():
    low, high = (initial([seed], (4, 16, 16)) for seed in (1, 2))
    middle = spherical(0.5, low, high)
    assert abs(middle.std() - 1) < 0.05
    assert (low / 2 + high / 2).std() < 0.8  # which is what a straight line gives
    assert torch.equal(spherical(1.0, low, high), high)
    assert torch.equal(spherical(0.5, low, low), low)
    # By hand, for one column: sin(angle / 2) / sin(angle) of each.
    a, b = low[0, 0, :, 0], high[0, 0, :, 0]
    angle = torch.acos(a @ b / a.norm() / b.norm())
    torch.testing.assert_close(middle[0, 0, :, 0], torch.sin(angle / 2) / torch.sin(angle) * (a + b))


def test_noise_of_another_size_lies_in_the_middle():
    small, ground = torch.ones(1, 1, 2, 6), torch.zeros(1, 1, 4, 4)
    assert centered(small, ground)[0, 0].tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]


def test_a_variation_changes_the_picture_little_by_little():
    with prepared(toy(), REQUEST) as plain:
        own = plain.noise(0)
    apart = []
    for strength in (0.1, 0.5, 1.0):
        with prepared(toy(), replace(VARIED, variation_strength=strength)) as drawing:
            apart.append((drawing.noise(0) - own).norm().item())
    assert 0 < apart[0] < apart[1] < apart[2]
    assert hashes(toy(), VARIED) != hashes(toy())
    assert hashes(toy(), replace(VARIED, variation_strength=0.0)) == hashes(toy())


def test_all_pictures_of_a_batch_vary_one_seed():
    pictures = draw(toy(), replace(VARIED, count=2))
    assert [picture.record.seed for picture in pictures] == [7, 7]
    again = [picture.record.again() for picture in pictures]
    assert [request.variation_seed for request in again] == [50, 51]
    assert [hashes(toy(), request)[0] for request in again] == [p.record.pixel_sha256 for p in pictures]


def test_a_random_variation_seed_is_recorded():
    (picture,) = draw(toy(), replace(VARIED, variation_seed=-1))
    assert picture.record.request.variation_seed >= 0
    assert hashes(toy(), picture.record.again()) == [picture.record.pixel_sha256]
    assert settled(REQUEST).variation_seed == -1  # nothing is drawn that is not used


def test_seed_resize_keeps_the_middle_of_the_noise():
    with prepared(toy(), REQUEST) as small:
        middle = small.noise(0)
    with prepared(toy(), replace(REQUEST, width=96, height=80, seed_width=64, seed_height=64)) as large:
        assert torch.equal(large.noise(0)[:, :, 1:9, 2:10], middle)
    with prepared(toy(), replace(REQUEST, width=96, height=80)) as other:
        assert not torch.equal(other.noise(0)[:, :, 1:9, 2:10], middle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed_width": 64}, "seed_width and seed_height belong together"),
        ({"seed_width": 63, "seed_height": 64}, "seed_width is 63; it must be a multiple of 8"),
        ({"variation_strength": 1.1}, "variation_strength is 1.1"),
        ({"variation_strength": 0.5, "variation_seed": 2**32 - 1, "count": 2}, "largest seed"),
    ],
)
def test_what_makes_no_sense_is_refused(change, words):
    with pytest.raises(RequestError, match=words):
        settled(replace(REQUEST, **change))


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 1), (0.5, 11), (0.75, 16), (1.0, 20)])
def test_a_strength_walks_as_many_steps_as_in_a1111(strength, steps):
    request = ImageToImage(prompt="", width=64, height=64, strength=strength)
    with prepared(toy(), request) as drawing, prepared(toy(), TextToImage(prompt="", width=64, height=64)) as whole:
        assert len(drawing.sigmas) - 1 == steps
        assert torch.equal(drawing.sigmas, whole.sigmas[-steps - 1 :])


def test_exact_steps_are_all_walked_from_the_same_noise_level():
    request = ImageToImage(prompt="", width=64, height=64, strength=0.5, exact_steps=True)
    with prepared(toy(), request) as exact, prepared(toy(), replace(request, exact_steps=False)) as some:
        assert len(exact.sigmas) == 21
        assert abs(exact.sigmas[0] / some.sigmas[0] - 1) < 0.2
    with prepared(toy(), replace(request, strength=0.0)) as drawing:
        assert len(drawing.sigmas) == 21


@pytest.mark.parametrize("noise", ["a1111", "nv"])
@pytest.mark.parametrize("exact_steps", [False, True])
def test_the_brownian_tree_of_a1111_spans_the_whole_schedule_however_little_of_it_is_walked(noise, exact_steps):
    changes = {"sampler": "DPM++ SDE", "noise": noise, "exact_steps": exact_steps}
    request = ImageToImage(prompt="", width=64, height=64, strength=0.5, **changes)
    whole = TextToImage(
        prompt="", steps=40 if exact_steps else 20, width=64, height=64, sampler="DPM++ SDE", noise=noise
    )
    with prepared(toy(), request) as drawing, prepared(toy(), whole) as all_of_it:
        a, b = drawing.sigmas[:2]
        assert torch.equal(drawing.noise_source(7)(a, b), all_of_it.noise_source(7)(a, b))
