import pytest

from daguerre.provenance import infotext
from daguerre.request import Edit, Hires, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage

from .records import record

SIZE = {"prompt": "a", "seed": 5, "width": 64, "height": 128}


@pytest.mark.parametrize(
    "request_",
    [
        TextToImage(**SIZE, variation_seed=9, variation_strength=0.25, seed_width=64, seed_height=72, tiling="both"),
        TextToImage(**SIZE, tiling="x", hires=Hires()),
        TextToImage(**SIZE, hires=Hires(width=256, steps=7, strength=0.35, upscaler="Latent (nearest-exact)",
                                        sampler="DDIM", schedule="karras", prompt="b, c", negative_prompt="d: e")),
        ImageToImage(**SIZE, strength=0.6, exact_steps=True, resize="latent", noise_multiplier=1.1),
        ImageToImage(**SIZE),
        Inpaint(**SIZE),
        Inpaint(**SIZE, mask_blur=2.5, fill="latent noise", only_masked=True, padding=16, invert=True),
        Inpaint(**SIZE, differential=True, variation_strength=1.0, variation_seed=3),
        Outpaint(**SIZE, left=64, down=8, fill="original", strength=0.8),
        Edit(**SIZE, image_cfg_scale=2.0),
    ],
)  # fmt: skip
def test_reading_what_was_written_gives_the_request(request_):
    made = record(request=request_, sampler=request_.sampler, schedule=request_.schedule, seed=5, index=0)
    assert infotext.to_request(infotext.read(infotext.write(made))) == request_


def test_the_keys_are_those_of_a1111():
    request = Inpaint(**SIZE, only_masked=True, invert=True, variation_seed=9, variation_strength=0.5)
    text = infotext.write(record(request=request, index=2))
    for pair in ("Variation seed: 11", "Variation seed strength: 0.5", "Denoising strength: 0.75", "Mask blur: 4",
                 "Masked content: original", "Mask mode: Inpaint not masked", "Inpaint area: Only masked",
                 "Masked area padding: 32"):  # fmt: skip
        assert f", {pair}," in text
    text = infotext.write(record(request=TextToImage(**SIZE, tiling="both", hires=Hires(steps=9))))
    for pair in ("Denoising strength: 0.7", "Hires upscale: 2", "Hires steps: 9", "Hires upscaler: Latent",
                 "Tiling: True"):  # fmt: skip
        assert f", {pair}," in text


def test_a_text_of_a1111_is_read():
    text = (
        "cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Variation seed: 4, "
        "Variation seed strength: 0.1, Seed resize from: 512x512, Denoising strength: 0.4, Tiling: True, "
        "Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent (bicubic), Hires sampler: Use same sampler"
    )
    request = infotext.to_request(infotext.read(text))
    assert request.hires == Hires(scale=1.5, steps=10, upscaler="Latent (bicubic)", strength=0.4)
    assert (request.seed_width, request.seed_height, request.tiling) == (512, 512, "both")
    assert (request.variation_seed, request.variation_strength) == (4, 0.1)


@pytest.mark.parametrize("pair", ["Denoising strength: much", "Hires upscale: x", "Mask blur: 999", "Tiling: z"])
def test_a_value_that_makes_no_sense_is_refused_by_name(pair):
    name = {"Mask blur: 999": "mask_blur", "Tiling: z": "tiling"}.get(pair, pair.split(":")[0])
    with pytest.raises(RequestError, match=name):
        infotext.to_request(infotext.read(f"cat\nSteps: 20, Sampler: Euler a, Seed: 1, {pair}"))
