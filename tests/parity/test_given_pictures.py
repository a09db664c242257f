"""Image to image and inpainting against diffusers' pipelines, where both mean the same: at most 1/255 apart.

Theirs takes a sample of the encoder's distribution, ours its mean; here theirs takes the mean, too. Theirs walks
int(strength * steps) steps, ours one more, as A1111. For the part that stays theirs gives what the decoder makes of
it, ours the picture itself, so that the masked part is compared.
"""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from daguerre import ImageToImage, Inpaint, image_to_image, inpaint
from daguerre.families.loading import load_model
from daguerre.generate.drawing import Picture
from tests.generate.test_upscale import drawing
from tests.parity.test_pictures import scheduler, text_encoder, tokenizer, unet, vae

VALUES = {"prompt": "a red apple", "negative_prompt": "blurry, dark", "steps": 10, "strength": 0.7, "seed": 5}
MASK = Image.new("L", (64, 64))
MASK.paste(255, (16, 8, 48, 40))


def pipeline(kind, folder, words, channels=4):
    torch.manual_seed(0)
    pipe = kind(vae(), text_encoder(), tokenizer(words), unet(in_channels=channels), scheduler("DDIM"), None, None,
                requires_safety_checker=False)  # fmt: skip
    with torch.no_grad():  # latents of unit variance, so that the given picture is seen in the result
        latents = pipe.vae.encode(pipe.image_processor.preprocess(drawing(64))).latent_dist.mode()
        for parameter in pipe.vae.quant_conv.parameters():
            parameter.mul_(1 / latents.std() / pipe.vae.config.scaling_factor)
    pipe.save_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    scale = pipe.vae.config.scaling_factor
    pipe._encode_vae_image = lambda image, generator: pipe.vae.encode(image).latent_dist.mode() * scale
    return pipe, load_model(folder, device="cpu", dtype="float32")


def theirs(pipe, sampler, **given):
    pipe.scheduler = scheduler(sampler)
    picture = pipe(
        VALUES["prompt"], negative_prompt=VALUES["negative_prompt"], num_inference_steps=10, strength=0.8,
        guidance_scale=7.0, generator=torch.Generator("cpu").manual_seed(5), output_type="np", **given,
    ).images[0]  # fmt: skip
    return (picture * 255).round().astype(int)


def ours(events):
    return np.asarray(next(event for event in events if isinstance(event, Picture)).image).astype(int)


@pytest.mark.parametrize("sampler", ["DDIM", "Euler"])
def test_image_to_image_gives_the_pixels_of_diffusers(sampler, tmp_path, tmp_path_factory):
    kind = diffusers.StableDiffusionImg2ImgPipeline
    pipe, model = pipeline(kind, tmp_path, tmp_path_factory.mktemp("words"))
    given = pipe.image_processor.preprocess(drawing(64))
    with torch.no_grad():
        latents = pipe.vae.encode(given).latent_dist.mode() * pipe.vae.config.scaling_factor
    expected = theirs(pipe, sampler, image=latents)
    request = ImageToImage(**VALUES, sampler=sampler)
    assert np.abs(ours(image_to_image(model, request, drawing(64))) - expected).max() <= 1
    other = ours(image_to_image(model, request, drawing(64).rotate(90)))
    assert np.abs(other - expected).max() >= 20, "the picture must matter for this to be a test"


@pytest.mark.parametrize("channels", [4, 9])
def test_inpainting_gives_the_pixels_of_diffusers_in_the_mask(channels, tmp_path, tmp_path_factory):
    kind = diffusers.StableDiffusionInpaintPipeline
    pipe, model = pipeline(kind, tmp_path, tmp_path_factory.mktemp("words"), channels)
    expected = theirs(pipe, "Euler", image=drawing(64), mask_image=MASK, width=64, height=64)
    request = Inpaint(**VALUES, sampler="Euler", mask_blur=0)
    made = ours(inpaint(model, request, drawing(64), MASK))
    inside = np.asarray(MASK) > 0
    assert np.abs(made - expected)[inside].max() <= 1
    assert np.array_equal(made[~inside], np.asarray(drawing(64))[~inside])
    other = ours(inpaint(model, replace(request, prompt="a blue car"), drawing(64), MASK))
    assert np.abs(other - expected)[inside].max() >= 5, "the prompt must matter for this to be a test"
