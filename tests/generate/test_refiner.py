from dataclasses import replace
from functools import cache

import pytest
import torch
from PIL import Image

from daguerre import Hires, Inpaint, Outpaint, inpaint, outpaint, text_to_image
from daguerre.adapters.adapted import adapted
from daguerre.adapters.formats import save_lora
from daguerre.adapters.named import networks_of
from daguerre.diffusion.denoiser import Step
from daguerre.generate.controls import Region, Regions, Style
from daguerre.generate.drawing import Picture
from daguerre.generate.heat_maps import HeatMaps
from daguerre.generate.refiner import HandOver, Refiner
from daguerre.provenance import infotext
from daguerre.request import RequestError
from tests.adapters.made import random_lora
from tests.generate.test_text_to_image import REQUEST, hashes
from tests.generate.test_upscale import drawing as drawn_by_hand
from tests.toy import toy as built

toy = cache(built)
STEPS = replace(REQUEST, steps=4)


def draw(switch_at, model="sdxl", refiner="sdxl-refiner", request=STEPS):
    return drawn(toy(model), request, Refiner(toy(refiner), switch_at))


def drawn(model, request, refiner):
    return next(event for event in text_to_image(model, request, controls=[refiner]) if isinstance(event, Picture))


def test_the_refiner_takes_over_where_it_is_told_to():
    made = [draw(share).record.pixel_sha256 for share in (0.0, 0.5, 0.75)]
    plain = hashes(toy("sdxl"), STEPS)[0]
    assert len({*made, plain}) == 4
    assert draw(1.0).record.pixel_sha256 == plain
    assert draw(0.5).record.pixel_sha256 == made[1]


def test_from_the_first_step_on_all_is_the_refiners():
    """But the decoder, which is the same for both here."""
    first, second = toy("sd1"), toy("sd1", seed=1, vae=toy("sd1").vae)
    both = drawn(first, STEPS, Refiner(second, 0.0))
    assert both.record.pixel_sha256 == hashes(second, STEPS)[0] != hashes(first, STEPS)[0]


REGIONS = Regions(regions=(Region(mask="left", prompt="a dog"),))
ANY_NETWORK = {
    "regions": [REGIONS],
    "style": [Style(prompt="ink on paper", seed=3, features=0.5)],
    "style, inverted": [Style(image=drawn_by_hand(64), way="inverted")],
    "both": [Style(prompt="ink on paper", seed=3), REGIONS],
}


@pytest.mark.parametrize("kind", ANY_NETWORK)
def test_what_steers_any_network_steers_the_refiner_in_any_order(kind):
    first, second, controls = toy("sd1"), toy("sd1", seed=1, vae=toy("sd1").vae), ANY_NETWORK[kind]

    def pixels(model, *controls):
        events = text_to_image(model, replace(STEPS, steps=2), controls=controls)
        return next(event for event in events if isinstance(event, Picture)).record.pixel_sha256

    alone = pixels(second, *controls)
    assert alone != pixels(second)
    assert pixels(first, *controls, Refiner(second, 0.0)) == alone == pixels(first, Refiner(second, 0.0), *controls)


def test_regions_lie_in_the_same_place_of_a_masked_part_and_of_its_second_pass():
    first, second = toy("sd1"), toy("sd1", seed=1, vae=toy("sd1").vae)
    image, mask = drawn_by_hand(96), Image.new("L", (96, 96))
    mask.paste(255, (0, 0, 40, 40))
    request = Inpaint(
        prompt="an apple", seed=7, steps=2, sampler="Euler", only_masked=True, padding=8, width=64, height=64
    )
    made = [inpaint(model, request, image, mask, [REGIONS, *more]) for model, more in (
        (first, [Refiner(second, 0.0)]), (second, []))]  # fmt: skip
    a, b = ([event for event in events if isinstance(event, Step)] for events in made)
    assert torch.equal(a[-1].x, b[-1].x)
    for model, more in ((first, [Refiner(second, 0.0)]), (second, [])):
        *_, step, _ = text_to_image(model, replace(STEPS, steps=2, hires=Hires(scale=1.5)), [REGIONS, *more])
        a.append(step)
    assert torch.equal(a[-1].x, a[-2].x)


def test_what_the_refiner_would_leave_without_effect_is_refused():
    with pytest.raises(RequestError, match="draws every step; controls of the first model"):
        next(text_to_image(toy("sd1"), STEPS, [HeatMaps(), Refiner(toy("sd1", seed=1), 0.1)]))
    next(text_to_image(toy("sd1"), STEPS, [HeatMaps(), Refiner(toy("sd1", seed=1), 0.5)]))
    request = Outpaint(prompt="a field", seed=1, steps=2, right=64, width=64, height=64)
    with pytest.raises(RequestError, match="regions from window to window"):
        next(outpaint(toy("sd1"), request, drawn_by_hand(64), [REGIONS, Refiner(toy("sd1", seed=1))]))


@pytest.mark.parametrize("count", ["4", "1.5"])
def test_prompts_that_change_in_a_second_pass_change_alike_for_the_refiner(count):
    def last(prompt, switch_at):
        request = replace(STEPS, prompt=prompt, steps=3, hires=Hires(scale=1.5))
        first, second = toy("sd1", seed=int(switch_at)), toy("sd1", seed=1)
        *_, step, _ = text_to_image(first, request, controls=[Refiner(second, switch_at)])
        return step.x

    changing = f"an apple, [ripe:green:{count}]"
    assert torch.equal(last(changing, 0.0), last(changing, 1.0))  # the model of seed 1 draws all
    assert not torch.equal(last(changing, 0.0), last("an apple, ripe", 0.0))


def test_calls_are_handed_over_below_the_level_and_counted():
    handed = HandOver(lambda x, sigma, cond: x * 0, lambda x, sigma, cond: cond + x * 0, torch.ones(1), 2.0)
    made = [handed(torch.zeros(1), torch.tensor(level), None).item() for level in (4.0, 2.1, 2.0, 0.5)]
    assert made == [0, 0, 1, 1]
    assert handed.calls == 4


def test_cfgpp_goes_along_the_negative_estimate_of_either():
    cfgpp, plain = (replace(STEPS, sampler=name) for name in ("Euler CFG++", "Euler"))
    found = {draw(0.5, request=one).record.pixel_sha256 for one in (cfgpp, plain, replace(cfgpp, negative_prompt="b"))}
    assert len({*found, hashes(toy("sdxl"), cfgpp)[0]}) == 4


def test_networks_that_the_prompt_names_are_the_first_models_alone(tmp_path):
    save_lora(tmp_path / "ink.safetensors", random_lora(toy("sdxl")), toy("sdxl"), "kohya")
    tagged = replace(STEPS, prompt=f"{STEPS.prompt} <lora:ink:2>")
    with adapted(toy("sdxl"), networks_of(tagged, tmp_path, tmp_path)) as (model, _):
        inked = [drawn(model, tagged, Refiner(toy("sdxl-refiner"), share)).record.pixel_sha256 for share in (0.0, 0.5)]
    assert inked[0] == draw(0.0).record.pixel_sha256
    assert inked[1] != draw(0.5).record.pixel_sha256


def test_the_record_and_the_infotext_tell_of_it():
    record = draw(0.5).record
    (used,) = record.controls
    assert (used.kind, used.name, used.start) == ("refiner", "toy", 0.5)
    assert ", Refiner: toy [], Refiner switch at: 0.5," in infotext.write(record)


def test_a_refiner_in_other_latents_is_refused_by_both_names():
    other = toy("sd1")
    small = built("sd1", vae=built("sd1").vae)
    small.vae.config = replace(small.vae.config, scale=0.5)
    with pytest.raises(RequestError, match=r"scale of latents 0.18215 of toy, 0.5 of toy"):
        next(text_to_image(other, STEPS, controls=[Refiner(small)]))
    with pytest.raises(RequestError, match="switch_at is 2"):
        next(text_to_image(other, STEPS, controls=[Refiner(other, 2)]))
