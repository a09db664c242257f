"""What the prompt language does to pictures."""

from dataclasses import replace

import pytest
import torch

from daguerre import TextToImage, text_to_image
from daguerre.generate.drawing import prepared
from daguerre.generate.text_to_image import Picture
from daguerre.request import AdaptiveProjection, PerturbedAttention, RequestError
from tests.toy import toy

REQUEST = TextToImage(prompt="a red apple", sampler="Euler", steps=4, width=64, height=64, seed=7, cfg_scale=7)


def drawn(prompt, model=None, **changes):
    request = replace(REQUEST, prompt=prompt, **changes)
    return [e for e in text_to_image(model or toy(), request) if isinstance(e, Picture)]


def pixels(prompt, model=None, **changes):
    return drawn(prompt, model, **changes)[-1].record.pixel_sha256


def values(prompt, **changes):
    return torch.frombuffer(bytearray(drawn(prompt, **changes)[0].image.tobytes()), dtype=torch.uint8).int()


@pytest.mark.parametrize("family", ["tintype", "sdxl", "sd1-inpaint"])
def test_a_changing_prompt_draws_what_neither_of_its_texts_draws(family):
    model = toy(family)
    texts = ("a red apple", "a red house", "a red [apple:house:1]", "a red [apple|house]", "a red [apple::1]")
    assert len({pixels(text, model, steps=6) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("prompt", "same"),
    [
        ("a red [apple:house:3]", "a red apple"),  # of the calls 0 to 3, "up to 3" are all
        ("a red [apple:house:0]", "a red house"),
        ("a red [apple:house:0.25]", "a red [apple:house:1]"),
        ("a red [apple|apple]", "a red apple"),
        ("a red apple # or a house", "a red apple"),
        ("# a house\na red apple", "a red apple"),
        ("a red [apple:house]", "a red [apple\\:house]"),
    ],
)
def test_prompts_that_mean_the_same_draw_the_same(prompt, same):
    assert pixels(prompt) == pixels(same)


def test_samplers_of_two_calls_count_two_to_a_step():
    """Of 4 steps, that is 8, of which Heun leaves the last out."""
    by_share, by_number = (pixels(f"a red [apple:house:{when}]", sampler="Heun") for when in ("0.5", "4"))
    assert by_share == by_number
    assert pixels("a red [apple:house:6]", sampler="Heun") == pixels("a red apple", sampler="Heun")
    assert pixels("a red [apple:house:2]", sampler="Heun") != by_number


@pytest.mark.parametrize(("sampler", "calls"), [("Euler", 10), ("Heun", 20), ("DPM fast", 10), ("DPM adaptive", 10)])
def test_half_of_the_steps_are_so_many_calls_in_a1111(sampler, calls):
    request = replace(REQUEST, prompt="a red [apple:house:0.5]", sampler=sampler, steps=20)
    with prepared(toy(), request) as drawing:
        assert drawing.conditions[0].last == calls


def test_the_negative_prompt_may_change():
    texts = ("", "blue", "[blue::1]")
    assert len({pixels("a red apple", negative_prompt=text) for text in texts}) == len(texts)
    assert pixels("a red apple", negative_prompt="blue # or not") == pixels("a red apple", negative_prompt="blue")


def test_every_part_of_a_prompt_and_its_weight_matter():
    texts = ("a red apple", "a house", "a red apple AND a house", "a red apple AND a house:-0.5", "a red apple:1.5")
    assert len({pixels(text) for text in texts}) == len(texts)
    assert len({pixels(text, cfg_scale=1) for text in texts}) == len(texts)


def test_a_part_without_weight_does_nothing_but_rounding():
    assert (values("a red apple AND a house:0") - values("a red apple")).abs().max() <= 2
    doubled = values("a red apple:0.5 AND a red apple:0.5") - values("a red apple")
    assert doubled.abs().max() <= 2
    assert (values("a red apple:2", cfg_scale=3.5) - values("a red apple")).abs().max() <= 2


def test_parts_change_on_their_own():
    texts = ("[a red apple::1] AND a house", "a red apple AND a house", "a red apple AND [a house::1]", " AND a house")
    assert len({pixels(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("guide", [AdaptiveProjection(threshold=1), PerturbedAttention(scale=2)])
def test_guides_go_with_prompts_that_change(guide):
    texts = ("[a red apple:a house:1]", "a red apple", "a red apple AND a house")
    assert len({pixels(text, guides=(guide,)) for text in texts} | {pixels(text) for text in texts}) == 2 * len(texts)


def test_outside_of_its_interval_guidance_goes_by_all_parts():
    texts = ("a red apple", "a red apple AND a house")
    assert len({pixels(text, guidance_interval=(1.0, 1.0)) for text in texts}) == 2


def test_every_picture_begins_with_the_first_text():
    alone = pixels("[apple:house:1]", seed=8)
    assert drawn("[apple:house:1]", count=2)[1].record.pixel_sha256 == alone


def test_comments_can_be_turned_off():
    assert pixels("a red apple #1", comments=False) != pixels("a red apple #1")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat <lora:sticker:0.8>", "asks for 'sticker', which is not attached"),
        ("a cat <lorra:sticker:0.8>", "'lorra' is not known"),
        ("a cat:" + "9" * 400, "beyond all numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(prompt, words):
    with pytest.raises(RequestError, match=words):
        drawn(prompt)


def test_an_attached_name_is_taken_out_of_the_prompt():
    assert pixels("a red apple <LoRA:x>".replace("LoRA", "lora"), toy(attached=("X",))) == pixels("a red apple ")
