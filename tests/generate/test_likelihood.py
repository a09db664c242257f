"""A diffusion model as the judge of prompts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre import TextToImage, load_model, text_to_image
from daguerre.diffusion.noise import initial
from daguerre.files.built_in import built_in
from daguerre.generate.drawing import Picture
from daguerre.generate.likelihood import FIRST, LAST, judge
from daguerre.request import RequestError
from tests.toy import toy

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))


def test_the_error_is_that_of_the_estimated_noise():
    model = toy()
    prompt, seed = "a red apple", 3
    [judged] = judge(model, NOISE, [prompt], draws=1, seed=seed)
    pixels = torch.from_numpy(np.array(NOISE)).permute(2, 0, 1)[None].float() / 127.5 - 1
    x0, noise = model.vae.encode(pixels), initial([seed], (4, 16, 16))
    sigma = model.levels.sigma(torch.tensor(FIRST * 999))
    cond, _ = model.encode(replace(model.defaults, prompt=prompt))
    x = x0 + sigma * noise
    estimate = (x - model.denoiser()(x, sigma, cond)) / sigma
    assert judged.error == pytest.approx((estimate - noise).square().mean().item(), rel=1e-4)
    assert 0 < FIRST < LAST < 1


def test_every_prompt_is_judged_by_the_same_noise_and_the_best_is_first():
    model, options = toy(), ["a cat", "a red apple", "a dog on a table", "a cat "]
    found = judge(model, NOISE, options, draws=9)
    errors = [judged.error for judged in found]
    assert errors == sorted(errors)
    by_prompt = {judged.prompt: judged.error for judged in found}
    assert by_prompt["a cat"] == by_prompt["a cat "]
    assert len(set(by_prompt.values())) == 3
    assert judge(model, NOISE, options, draws=9) == found
    assert judge(model, NOISE, options, draws=9, seed=1) != found


def test_families_with_pooled_text():
    assert len(judge(replace(toy("sdxl"), family=replace(toy("sdxl").family, defaults={"width": 64, "height": 64})),
                     NOISE, ["a cat", "a dog"], draws=2)) == 2  # fmt: skip


def test_what_cannot_judge():
    with pytest.raises(RequestError, match="wants a picture beside the prompt"):
        judge(toy("sd1-inpaint"), NOISE, ["a cat"])
    with pytest.raises(RequestError, match="0 prompts and 16 draws"):
        judge(toy(), NOISE, [])


def test_the_built_in_model_knows_what_it_drew():
    model = load_model(built_in("tintype"), device="cpu", dtype="float32")
    options = ["a red apple, 3d render", "a blue car, 3d render", "a sunflower, 3d render"]
    request = TextToImage(
        **{**vars_of(model), "prompt": options[0], "seed": 1, "steps": 6, "width": 128, "height": 128}
    )
    *_, picture = text_to_image(model, request)
    assert isinstance(picture, Picture)
    assert judge(model, picture.image, options, draws=4)[0].prompt == options[0]


def vars_of(model):
    """The model's defaults, as arguments."""
    return {"sampler": model.defaults.sampler, "schedule": model.defaults.schedule, "cfg_scale": 4.0}
