import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daguerre import TextToImage, text_to_image
from daguerre.diffusion.denoiser import Step
from daguerre.diffusion.samplers import SAMPLERS
from daguerre.families.loading import load_model
from daguerre.generate.drawing import Picture, settled
from daguerre.provenance import png
from daguerre.request import RequestError
from daguerre.runtime.precision import NumericError
from tests.toy import UNETS, toy, write_toy

REQUEST = TextToImage(prompt="a red apple", steps=3, width=64, height=64, seed=7)


def draw(model, request=REQUEST):
    return [event for event in text_to_image(model, request) if isinstance(event, Picture)]


def hashes(model, request=REQUEST):
    return [picture.record.pixel_sha256 for picture in draw(model, request)]


def test_steps_come_first_and_then_the_picture():
    events = list(text_to_image(toy(), REQUEST))
    assert [type(event) for event in events] == [Step, Step, Step, Picture]
    assert [event.i for event in events[:3]] == [0, 1, 2]
    assert events[-1].image.size == (64, 64)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_same_pixels_whatever_is_drawn_beside_it(sampler):
    model, request = toy(), replace(REQUEST, sampler=sampler)
    alone = hashes(model, replace(request, seed=9))
    assert hashes(model, replace(request, seed=7, count=3))[2:] == alone
    assert len(set(hashes(model, replace(request, count=3)))) == 3


def test_same_pixels_after_another_model_was_loaded_and_used():
    model = toy()
    before = hashes(model)
    other = hashes(toy(seed=1))
    assert hashes(model) == before != other


def test_same_pixels_in_another_process(tmp_path):
    path = write_toy(toy(), tmp_path / "toy.safetensors")
    here = hashes(load_model(path, device="cpu", dtype="float32"))
    code = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from daguerre import load_model, text_to_image, TextToImage\n"
        "model = load_model(sys.argv[1], device='cpu', dtype='float32')\n"
        "request = TextToImage(prompt='a red apple', steps=3, width=64, height=64, seed=7)\n"
        "*_, picture = text_to_image(model, request)\n"
        "print(picture.record.pixel_sha256)"
    )
    command = [sys.executable, "-c", code, str(path), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == here


def test_random_seed_is_drawn_and_reported():
    pictures = [draw(toy(), replace(REQUEST, seed=-1))[0] for _ in range(2)]
    seeds = [picture.record.seed for picture in pictures]
    assert min(seeds) >= 0
    assert seeds[0] != seeds[1]
    again = replace(REQUEST, seed=seeds[0])
    assert hashes(toy(), again) == [pictures[0].record.pixel_sha256]


@pytest.mark.parametrize("family", UNETS)
def test_every_family_draws_and_the_prompt_matters(family):
    model = toy(family)
    one, other = (hashes(model, replace(REQUEST, prompt=prompt, cfg_scale=9)) for prompt in ("a cat", "two dogs"))
    assert one != other


@pytest.mark.parametrize(
    "change",
    [
        {"negative_prompt": "blurry"},
        {"cfg_scale": 2.0},
        {"steps": 4},
        {"guidance_rescale": 0.7},
        {"guidance_interval": (0.4, 1.0)},
        {"clip_skip": 2},
        {"schedule": "karras"},
        {"prompt": "a (red:1.3) apple"},
        {"prompt": "(a red:1.3) apple", "emphasis": "no norm"},
        {"width": 72},
        {"sampler": "DPM++ 2M"},
    ],
)
def test_every_setting_reaches_the_picture(change):
    model = toy()
    assert hashes(model, replace(REQUEST, **change)) != hashes(model)


def test_settings_that_do_nothing_do_nothing():
    model, unguided = toy(), replace(REQUEST, cfg_scale=1.0)
    assert hashes(model, replace(unguided, negative_prompt="blurry")) == hashes(model, unguided)
    assert hashes(model, replace(REQUEST, prompt="a (red:1.3) apple", emphasis="ignore")) == hashes(model)


def test_stopping_early_is_cancelling():
    steps = text_to_image(toy(), replace(REQUEST, steps=50))
    next(steps)
    steps.close()
    assert torch.is_grad_enabled()


def test_gradients_stay_on_for_the_caller_between_steps():
    for _ in text_to_image(toy(), REQUEST):
        assert torch.is_grad_enabled()


def test_low_memory_draws_the_same_picture_but_for_rounding(tmp_path):
    path = write_toy(toy(), tmp_path / "toy.safetensors")
    plain, lean = (draw(load_model(path, device="cpu", dtype="float32", low_memory=low))[0] for low in (False, True))
    a, b = (torch.frombuffer(bytearray(p.image.tobytes()), dtype=torch.uint8).int() for p in (plain, lean))
    assert (a - b).abs().max() <= 2  # guidance in two passes and bands round otherwise
    assert lean.record.mode == "low memory"


def test_low_memory_holds_no_weights_between_uses(tmp_path):
    model = load_model(write_toy(toy(), tmp_path / "toy.safetensors"), device="cpu", low_memory=True)
    first = hashes(model, replace(REQUEST, count=2))
    assert all(p.is_meta for module in model.parts.values() for p in module.parameters())
    assert hashes(model, replace(REQUEST, count=2)) == first


def test_broken_weights_give_an_error_and_no_picture():
    model = toy()
    model.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(NumericError, match="step 1 of 3"):
        draw(model)


def test_a_black_picture_is_an_error():
    model = toy()
    model.vae.decoder.conv_out.weight.zero_()
    model.vae.decoder.conv_out.bias.fill_(-5)
    with pytest.raises(NumericError, match="black"):
        draw(model)


def test_settled_makes_every_choice():
    request = settled(replace(REQUEST, sampler="DPM++ 2S a Karras", seed=-1))
    assert (request.sampler, request.schedule) == ("DPM++ 2S a", "karras")
    assert request.seed >= 0
    assert settled(replace(REQUEST, sampler="euler")).schedule == "automatic"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "eulr a"}, "Euler a"),
        ({"schedule": "karas"}, "karras"),
        ({"seed": 2**32 - 1, "count": 2}, "largest seed"),
        ({"clip_skip": 5}, "clip_skip"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(change, words):
    with pytest.raises(RequestError, match=words):
        draw(toy(), replace(REQUEST, **change))


def test_the_file_hash_in_the_record_is_that_of_the_file(tmp_path):
    path: Path = write_toy(toy(), tmp_path / "toy.safetensors")
    record = draw(load_model(path, device="cpu"))[0].record
    assert record.model_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.model == "toy"


def test_a_picture_is_saved_with_its_record_in_place_of_what_is_there(tmp_path):
    *_, picture = text_to_image(toy("sd1"), REQUEST)
    path = tmp_path / "new" / "cat.png"
    for _ in range(2):
        assert picture.save(path) == path
        assert png.read(path)[0] == picture.record
    with pytest.raises(ValueError, match=r"cat\.jpg: the record of how it was made needs a PNG"):
        picture.save(tmp_path / "cat.jpg")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["cat.png", "new"]
