from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch
from PIL import Image

from daguerre import Hires, text_to_image
from daguerre.adapters.adapted import adapted
from daguerre.adapters.formats import save_lora
from daguerre.adapters.named import networks_of
from daguerre.diffusion.denoiser import Step
from daguerre.generate.controls import Region, Regions, Style
from daguerre.generate.drawing import Picture
from daguerre.generate.heat_maps import HeatMaps
from daguerre.generate.hires import LATENT, enlarged_size, larger_latents, second_pass
from daguerre.generate.refiner import Refiner
from daguerre.provenance.record import Record
from daguerre.request import ImageToImage, RequestError
from tests.adapters.made import random_lora
from tests.generate.test_text_to_image import REQUEST, draw, hashes
from tests.toy import toy as built

toy = cache(built)
FEW = replace(REQUEST, steps=2, hires=Hires(scale=1.5, steps=1, strength=1.0))
HIGH = replace(REQUEST, steps=2, hires=Hires(scale=1.5, strength=0.5))


def test_both_passes_are_walked_and_the_picture_is_large():
    events = list(text_to_image(toy(), replace(HIGH, hires=Hires(scale=1.5, steps=3))))
    assert [type(event) for event in events] == [Step] * 5 + [Picture]
    assert [event.x.shape[-1] for event in events[:-1]] == [8, 8, 12, 12, 12]
    picture = events[-1]
    assert picture.image.size == (96, 96)
    assert (picture.record.request.width, picture.record.seed) == (64, 7)  # as asked


def test_the_picture_is_drawn_again_from_its_record():
    hires = replace(HIGH.hires, sampler="Heun", upscaler="built-in")
    first, second = draw(toy(), replace(HIGH, hires=hires, count=2))
    assert second.record.sampler == "Euler a"  # the first pass's
    assert [used.role for used in second.record.pictures] == ["hires upscaler"]
    record = Record.from_json(second.record.to_json())
    assert record.request == replace(HIGH, hires=hires, count=2)
    assert hashes(toy(), record.again()) == [second.record.pixel_sha256]
    assert first.record.pixel_sha256 != second.record.pixel_sha256


@pytest.mark.parametrize(
    "change",
    [{"strength": 0.9}, {"steps": 3}, {"upscaler": "Lanczos"}, {"sampler": "Heun"}, {"prompt": "a blue pear"},
     {"upscaler": "Latent (nearest)"}, {"width": 128}],
)  # fmt: skip
def test_every_setting_reaches_the_picture(change):
    assert hashes(toy(), replace(HIGH, hires=replace(HIGH.hires, **change))) != hashes(toy(), HIGH)


def test_latents_are_enlarged_in_each_way_and_cut_to_shape():
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    made = {way: larger_latents(z, (12, 16), way) for way in LATENT}
    assert all(large.shape == (1, 4, 12, 16) for large in made.values())
    twice = larger_latents(z, (16, 16), "Latent (nearest)")
    assert torch.equal(twice[:, :, ::2, ::2], z)
    assert torch.equal(made["Latent (nearest)"], twice[:, :, 2:14])  # as much above as below is left out


@pytest.mark.parametrize(
    ("hires", "size"),
    [
        (Hires(), (128, 192)),
        (Hires(scale=1.3), (80, 128)),
        (Hires(width=96), (96, 144)),
        (Hires(height=192), (128, 192)),
        (Hires(width=128, height=128), (128, 128)),
    ],
)
def test_the_size_of_the_second_pass(hires, size):
    assert enlarged_size((64, 96), hires) == size


def test_the_second_pass_asks_for_what_the_first_asked():
    first = replace(REQUEST, sampler="Euler", schedule="karras", negative_prompt="dark")
    over = second_pass(first, Hires(sampler="DPM++ 2M"))
    assert isinstance(over, ImageToImage)
    assert (over.prompt, over.negative_prompt, over.steps) == ("a red apple", "dark", 3)
    assert (over.sampler, over.schedule, over.exact_steps) == ("DPM++ 2M", "automatic", True)
    assert second_pass(first, Hires()).schedule == "karras"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale": 0.5}, "hires scale is 0.5; it must be a number from 1 to 16"),
        ({"steps": 1.5}, "hires steps is 1.5; it must be a whole number"),
        ({"upscaler": "nothing"}, "hires upscaler is 'nothing'; give an upscaler's file, or one of Latent"),
        ({"width": 100}, "width is 100; it must be a multiple of 8"),
        ({"sampler": "eulr"}, "did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused(values, words):
    with pytest.raises(RequestError, match=words):
        draw(toy(), replace(REQUEST, hires=Hires(**values)))


@pytest.mark.parametrize(
    ("values", "hires", "words"),
    [
        (
            {"tiling": "both"},
            Hires(scale=1.13),
            "the second pass: width is 72; with tiling it must be a multiple of 16",
        ),
        (
            {"sigma_min": 5.0, "sigma_max": 6.0},
            Hires(steps=99, schedule="turbo"),
            "the second pass: schedule 'turbo' has",
        ),
    ],
)
def test_what_the_second_pass_cannot_draw_is_refused_before_the_first(values, hires, words):
    with pytest.raises(RequestError, match=words):
        next(iter(text_to_image(toy(), replace(HIGH, **values, hires=hires))))


SQUARE = Image.new("RGB", (64, 64), "white")


def test_a_mask_that_does_not_fit_the_second_pass_is_refused_before_the_first():
    request, regions = replace(HIGH, hires=Hires(width=128, height=96)), [Region(mask=SQUARE, prompt="a dog")]
    with pytest.raises(
        RequestError, match=r"the second pass: the mask of region 1 has 64 x 64 .* the picture 128 x 96"
    ):
        next(iter(text_to_image(toy(), request, controls=[Regions(regions=tuple(regions))])))


def test_the_second_pass_draws_the_reference_of_its_style_when_it_is_its_turn():
    """What is tried before the first pass takes no steps."""
    model, calls = toy(), []
    hook = model.unet.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[-1]))
    next(iter(text_to_image(model, HIGH, controls=[Style(prompt="ink")])))
    hook.remove()
    assert set(calls) == {8}  # a first pass's 64 pixels


def test_a_refiner_that_leaves_a_control_nothing_to_do_in_the_second_pass_is_refused_before_the_first():
    with pytest.raises(RequestError, match="the second pass: the refiner draws every step"):  # the one that it has
        next(iter(text_to_image(toy(), FEW, controls=[HeatMaps(), Refiner(toy(seed=1), 0.4)])))


@pytest.fixture
def networks(tmp_path):
    """A folder with two LoRAs for the toy model, and the files that a request's tags name there."""
    for seed, name in enumerate(("ink", "fur")):
        save_lora(tmp_path / f"{name}.safetensors", random_lora(toy(), seed), toy(), "kohya")
    return lambda request: networks_of(request, tmp_path, tmp_path)


def steps(request, files):
    with adapted(toy(), files) as (model, _):
        return [event.x for event in text_to_image(model, request) if isinstance(event, Step)]


def test_each_pass_is_drawn_with_the_networks_of_its_own_prompt(networks):
    inked = replace(HIGH, prompt="a red apple <lora:ink>")
    other = replace(inked, hires=replace(HIGH.hires, prompt="a red apple <lora:fur>"))
    first = steps(replace(inked, hires=None), networks(inked))
    alone = steps(replace(HIGH, hires=None), [])
    found = {}
    for name, request in {
        "both": inked,
        "other": other,
        "second": replace(other, prompt="a red apple"),
        "first": replace(inked, hires=replace(HIGH.hires, prompt="a red apple")),
    }.items():
        made = steps(request, networks(request))
        assert all(map(torch.equal, made[:2], alone if name == "second" else first))
        found[name] = made[-1]
    assert not torch.equal(alone[-1], first[-1])
    over = steps(replace(HIGH, hires=replace(HIGH.hires, prompt="a red apple")), [])[-1]
    assert min((a - b).abs().max() for a, b in combinations([*found.values(), over], 2)) > 1e-3


def test_a_network_that_only_the_second_pass_lacks_is_refused_before_the_first(networks):
    request = replace(HIGH, prompt="a <lora:ink>", hires=Hires(prompt="a <lora:fur>"))
    with (
        adapted(toy(), networks(replace(request, hires=None))) as (model, _),
        pytest.raises(RequestError, match="asks for 'fur', which is not attached"),
    ):
        next(iter(text_to_image(model, request)))


def test_a_comment_is_no_prompt_of_the_second_passs_own():
    assert hashes(toy(), replace(HIGH, hires=replace(HIGH.hires, prompt="# later"))) == hashes(toy(), HIGH)
    assert second_pass(HIGH, replace(HIGH.hires, prompt="fur # thick")).prompt == "fur"


def test_only_text_to_image_has_a_second_pass():
    with pytest.raises(RequestError, match="hires must be a Hires, for text to image"):
        ImageToImage(prompt="", hires=Hires())
