import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daguerre.provenance import infotext
from daguerre.provenance.record import UsedAdapter
from daguerre.request import PerturbedAttention, RequestError, SkipNegative, TextToImage

from .records import ANY_TEXT, TRAPS, record, requests

# A line of words: no prompt that could be taken for something else.
PLAIN = st.text(st.sampled_from("ab (cd:1.2), é\U0001f431"), max_size=40).map(str.strip)

A1111 = """a portrait, (detailed:1.2)
masterpiece
Negative prompt: blurry,
lowres
Steps: 25, Sampler: DPM++ 2M SDE, Schedule type: SGM Uniform, CFG scale: 6.5, Seed: 4294967295, \
Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned, VAE hash: 735e4c3a44, \
VAE: "vae, ft: mse.safetensors", Clip skip: 2, RNG: CPU, \
Lora hashes: "add: 0123456789ab, more: ba9876543210", Emphasis: No norm, Version: v1.10.1"""

OLD_A1111 = """cat
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Face restoration: CodeFormer, Size: 512x512"""

FORGE = """a castle
Steps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 9, \
Size: 896x1152, Model: flux, Version: f2.0.1, Module 1: ae, Module 2: t5xxl"""


def test_the_text_has_the_order_and_form_that_others_expect():
    request = TextToImage(
        prompt="a\nb", negative_prompt="c", clip_skip=2, guidance_rescale=0.7, guidance_interval=(0.1, 1), seed=5
    )
    made = record(request=request, model="my: model", vae="v", vae_sha256="9" * 64, versions={"daguerre": "0.1.0"})
    assert infotext.write(made) == (
        "a\nb\nNegative prompt: c\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 123, Size: 512x512, "
        'Model hash: 0123456789, Model: "my: model", VAE hash: 9999999999, VAE: v, Clip skip: 2, RNG: CPU, '
        "CFG rescale: 0.7, CFG interval: 0.1 to 1, Version: daguerre 0.1.0"
    )


def test_adapters_are_named_with_the_hashes_that_model_sites_know():
    used = [("lora", "ink", "1" * 64), ("embedding", "zwx", "2" * 64), ("lora", "dots, fine", "3" * 64)]
    made = record(adapters=tuple(UsedAdapter(kind=kind, name=name, sha256=sha256) for kind, name, sha256 in used))
    found = infotext.read(infotext.write(made))
    assert found["Lora hashes"] == "ink: 1111111111, dots, fine: 3333333333"
    assert found["TI hashes"] == "zwx: 222222222222"


def test_both_passes_of_a_hires_fix_are_told_of():
    used = [UsedAdapter(kind="lora", name="ink", sha256="1" * 64, during=which) for which in ("first", "second")]
    made = record(adapters=tuple(used), template="a", hires_template="{a|b}", hires_negative_template="{c|d}")
    found = infotext.read(infotext.write(made))
    assert found["Lora hashes"] == "ink: 1111111111"
    assert (found["Hires template"], found["Hires negative template"]) == ("{a|b}", "{c|d}")


def test_what_is_as_usual_is_left_out():
    text = infotext.write(record(request=TextToImage(prompt="a")))
    assert "\n" in text
    assert not any(key in text for key in ("Negative", "Clip skip", "VAE", "CFG rescale", "interval", "Emphasis"))


@given(requests(PLAIN))
def test_reading_what_was_written_gives_the_request(request):
    made = record(request=request, sampler=request.sampler, schedule=request.schedule)
    assert infotext.to_request(infotext.read(infotext.write(made))) == replace(request, seed=123, count=1)


def test_steps_without_a_negative_side_have_the_keys_of_a1111():
    skip = SkipNegative(below=2.5, every=True, early=0.1)
    text = infotext.write(record(request=TextToImage(prompt="a", guides=(PerturbedAttention(scale=4), skip))))
    assert 'Guides: "pag:scale=4; skip:below=2.5,every=True,early=0.1", NGMS: 2.5, NGMS all steps: True' in text
    theirs = OLD_A1111 + ", NGMS: 2.5, NGMS all steps: True, Skip Early CFG: 0.1"
    assert infotext.to_request(infotext.read(theirs)).guides == (skip,)
    with pytest.raises(RequestError, match="NGMS"):
        infotext.to_request(infotext.read(OLD_A1111 + ", NGMS: many"))


def test_an_a1111_text_is_read():
    found = infotext.read(A1111)
    assert found["Prompt"] == "a portrait, (detailed:1.2)\nmasterpiece"
    assert found["Negative prompt"] == "blurry,\nlowres"
    assert (found["Size-1"], found["Size-2"]) == ("512", "768")
    assert "Size" not in found
    assert found["VAE"] == "vae, ft: mse.safetensors"
    assert found["Lora hashes"] == "add: 0123456789ab, more: ba9876543210"
    assert infotext.to_request(found) == TextToImage(
        prompt="a portrait, (detailed:1.2)\nmasterpiece",
        negative_prompt="blurry,\nlowres",
        steps=25,
        sampler="DPM++ 2M SDE",
        schedule="sgm_uniform",
        cfg_scale=6.5,
        seed=4294967295,
        width=512,
        height=768,
        clip_skip=2,
        emphasis="no norm",
    )


def test_what_an_old_text_leaves_out_has_its_old_meaning():
    found = infotext.read(OLD_A1111)
    assert {k: found[k] for k in infotext.DEFAULTS} == {"Clip skip": "1", "RNG": "GPU", "Schedule type": "Automatic"}
    assert infotext.to_request(found) == TextToImage(prompt="cat", sampler="DPM++ 2M Karras", seed=1)


def test_a_forge_text_is_read():
    found = infotext.read(FORGE)
    assert found["Distilled CFG Scale"] == "3.5"
    assert found["Module 2"] == "t5xxl"
    request = infotext.to_request(found)
    assert (request.schedule, request.width, request.height, request.cfg_scale) == ("simple", 896, 1152, 1)


@pytest.mark.parametrize("text", ["", "just words, nothing else", "a\nSteps: 20, Seed: 1"])
def test_fewer_than_three_settings_are_a_prompt(text):
    assert infotext.read(text) == {"Prompt": text}
    assert infotext.to_request(infotext.read(text)) == TextToImage(prompt=text)


def test_windows_line_ends_are_read():
    assert infotext.read(A1111.replace("\n", "\r\n")) == infotext.read(A1111)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Steps: 25", "Steps: many", "Steps is 'many' in the picture; expected numbers"),
        ("Steps: 25", "Steps: 99999", "steps is 99999; it must be a number from 1 to 1000"),
        ("Size: 512x768", "Size: 512x99999999", "height is 99999999"),
        ("Size: 512x768", "Size: 511x768", "width is 511; it must be a multiple of 8"),
        ("CFG scale: 6.5", "CFG scale: nan", "cfg_scale is nan"),
        ("Emphasis: No norm", "Emphasis: Wild", "emphasis is 'wild'; choose one of original"),
        ("Emphasis: No norm", "CFG interval: 1 to x", "CFG interval is '1 to x'"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_it(old, new, reason):
    assert old in A1111
    with pytest.raises(RequestError, match=reason):
        infotext.to_request(infotext.read(A1111.replace(old, new)))


@given(ANY_TEXT)
@example(A1111)
def test_reading_never_fails_and_sets_only_what_a_request_has(text):
    found = infotext.read(text)
    assert "Prompt" in found
    with contextlib.suppress(RequestError):
        infotext.to_request(found)


@pytest.mark.parametrize("text", TRAPS)
def test_any_prompt_can_be_written_and_a_plain_reader_gets_the_settings(text):
    found = infotext.read(infotext.write(record(request=TextToImage(prompt=text), model=text)))
    assert (found["Seed"], found["Model hash"], found["Model"]) == ("123", "0123456789", text)


@pytest.mark.parametrize(
    "line", ["a" * 100_000, "a " * 50_000, 'k1: "' * 20_000, 'k1: "\\' * 20_000, "k1:" + " " * 100_000, "a:," * 40_000]
)
def test_a_hostile_line_is_read_in_less_than_a_second(line):
    start = time.process_time()
    infotext.read(line)
    assert time.process_time() - start < 1
