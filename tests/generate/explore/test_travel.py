from itertools import pairwise

import pytest
import torch

from daguerre import TextToImage, text_to_image
from daguerre.diffusion.noise import initial, spherical
from daguerre.generate.drawing import prepared
from daguerre.generate.explore.job import Job
from daguerre.generate.explore.travel import between, plan_travel
from daguerre.request import MAX_SEED, RequestError
from tests.toy import toy

BASE = Job(TextToImage(prompt="a red apple", steps=1, width=64, height=64, seed=7, cfg_scale=2))


def test_between_seeds_the_noise_is_on_the_great_circle():
    jobs = plan_travel(BASE, seeds=[9, 11], frames=4)
    assert len(jobs) == 9
    model = toy()
    noises = []
    for job in jobs:
        with prepared(model, job.request) as drawing:
            noises.append(drawing.noise(0))
    first, second, third = (initial([seed], drawing.shape) for seed in (7, 9, 11))
    assert torch.equal(noises[0], first)
    assert torch.equal(noises[4], second)
    assert torch.equal(noises[8], third)
    assert torch.equal(noises[1], spherical(0.25, first, second))
    ways = [(b - a).norm() for a, b in pairwise(noises)]
    assert max(ways) < 1.1 * min(ways)
    assert max(ways) < 0.5 * (second - first).norm()


def test_each_frame_is_a_picture_of_its_own():
    jobs = plan_travel(BASE, seeds=[9], frames=2)
    hashes = [list(text_to_image(toy(), job.request))[-1].record.pixel_sha256 for job in jobs]
    assert len(set(hashes)) == 3
    alone = plan_travel(BASE, seeds=[9], frames=4)[2]
    assert alone == jobs[1]


def test_a_loop_ends_one_frame_before_its_beginning():
    jobs = plan_travel(BASE, seeds=[9], frames=3, loop=True)
    assert [(j.request.seed, j.request.variation_seed) for j in jobs] == [
        (7, -1), (7, 9), (7, 9), (9, -1), (9, 7), (9, 7),
    ]  # fmt: skip


def test_between_prompts_both_are_said():
    jobs = plan_travel(BASE, prompts=["a green pear"], frames=4)
    assert [job.request.prompt for job in jobs] == [
        "a red apple",
        "a red apple :0.750000 AND a green pear :0.250000",
        "a red apple :0.500000 AND a green pear :0.500000",
        "a red apple :0.250000 AND a green pear :0.750000",
        "a green pear",
    ]
    assert {job.request.seed for job in jobs} == {7}
    assert between("a AND b :2", "c # a comment", 0.5) == "a :0.500000 AND b :1.000000 AND c :0.500000"


def test_prompts_and_seeds_at_once():
    jobs = plan_travel(BASE, seeds=[8, 9], prompts=["a pear"], frames=1)
    assert [(job.request.prompt, job.request.seed) for job in jobs] == [
        ("a red apple", 7),
        ("a pear", 8),
        ("a pear", 9),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "somewhere to go"),
        ({"seeds": [8], "frames": 0}, "frames is 0"),
        ({"seeds": [8], "frames": 20_000}, "frames is 20000"),
        ({"seeds": [MAX_SEED + 1]}, "is none"),
        ({"seeds": [-1]}, "seed -1 is none"),
    ],
)
def test_ways_that_lead_nowhere(options, words):
    with pytest.raises(RequestError, match=words):
        plan_travel(BASE, **options)
