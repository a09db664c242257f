"""Every guide reaches the picture, is nothing at its neutral setting, and leaves nothing at the network."""

import hashlib
from dataclasses import replace

import pytest
import torch
from PIL import Image

from daguerre import TextToImage, load_model, text_to_image
from daguerre.cli.exit import Failure
from daguerre.cli.flags import DrawingFlags
from daguerre.diffusion.denoiser import Step
from daguerre.generate.controls.style import Style
from daguerre.generate.drawing import Picture, prepared
from daguerre.generate.guides import Guides
from daguerre.generate.perturbations import grid
from daguerre.models.attention import Attention
from daguerre.provenance.record import Record, RecordError
from daguerre.request import GUIDES, Autoguidance, CFGZero, PerturbedAttention, RequestError, read_guide
from tests.toy import toy, write_toy

REQUEST = TextToImage(
    prompt="a red apple", negative_prompt="a green pear", steps=4, width=64, height=72, seed=7, sampler="Euler"
)
STRONG = {
    "freeu": "freeu:b1=1.5,b2=1.6,s1=0.5,s2=0.2",
    "skip": "skip:below=20",
    "perp": "perp",
    "tcfg": "tcfg",
    "zero": "zero",
    "apg": "apg:threshold=1",
    "pag": "pag",
    "seg": "seg",
    "sag": "sag:threshold=0.9",
    "auto": "auto:drop=mid_attn",
    "threshold": "threshold:mimic_scale=2",
}
NEUTRAL = [
    "freeu:b1=1,b2=1,s1=1,s2=1",
    "freeu:b1=1,b2=1,s1=1,s2=1,version=1",
    "skip",
    "apg:eta=1,threshold=0,momentum=0",
    "pag:scale=0",
    "pag:scale=1,adaptive=1",
    "seg:scale=0",
    "seg:blur=0",
    "sag:scale=0",
    "auto:scale=0,drop=mid_attn",
    "threshold:mimic_scale=7",
]


def final(model, *guides, **changes) -> torch.Tensor:
    """The latents of a picture."""
    request = replace(REQUEST, guides=tuple(map(read_guide, guides)), **changes)
    *_, step = (event for event in text_to_image(model, request) if isinstance(event, Step))
    return step.x


def calls(model, *guides, **changes) -> list[int]:
    """How many pictures each call of the network was for."""
    seen = []
    hook = model.unet.register_forward_pre_hook(lambda unet, args: seen.append(len(args[0])))
    final(model, *guides, **changes)
    hook.remove()
    return seen


def test_sag_looks_at_the_picture_beside_a_style():
    model, request = toy("sd1"), replace(REQUEST, guides=(read_guide("sag:threshold=0.9"),))

    def last(**how):
        style = [Style(image=Image.new("RGB", (64, 72), "teal"), **how)] if how else []
        *_, step, _ = text_to_image(model, request, style)
        return step.x

    assert torch.equal(last(weight=0, features=0), last())
    assert (last(weight=1) - last()).abs().max() > 0.01


def test_there_is_a_test_for_every_guide():
    assert STRONG.keys() == GUIDES.keys()


@pytest.mark.parametrize("guide", STRONG.values())
def test_every_guide_changes_the_picture(guide):
    model = toy("sd1")
    changed = final(model, guide)
    assert changed.isfinite().all()
    assert (changed - final(model)).abs().max() > 0.01
    assert torch.equal(final(model, guide), changed)


@pytest.mark.parametrize("guide", NEUTRAL)
def test_a_neutral_guide_draws_what_none_draws_to_the_bit(guide):
    model = toy("sd1")
    assert torch.equal(final(model, guide), final(model))


@pytest.mark.parametrize("guide", ["pag", "seg", "sag:threshold=0.9", "auto:drop=mid_attn", "freeu:s1=0.2"])
@pytest.mark.parametrize("family", ["tintype", "sd2", "sdxl", "sdxl-refiner"])
def test_guides_inside_of_every_u_net(family, guide):
    model = toy(family)
    assert not torch.equal(final(model, guide), final(model))


@pytest.mark.parametrize("guide", STRONG.values())
def test_nothing_stays_attached(guide):
    model = toy("sd1")
    for event in text_to_image(model, replace(REQUEST, guides=(read_guide(guide),))):
        for module in model.unet.modules():
            assert not module._forward_pre_hooks
            assert not module._forward_hooks
            assert not (isinstance(module, Attention) and "attend" in vars(module))
        if isinstance(event, Step) and event.i == 1:
            break


@pytest.mark.parametrize("guide", ["pag", "seg", "sag:threshold=0.9", "auto:drop=mid_attn", "apg", "threshold", "perp"])
def test_one_pass_or_two_make_no_difference_but_rounding(guide, tmp_path):
    path = write_toy(toy("sd1"), tmp_path / "toy.safetensors")
    batched, lean = (load_model(path, device="cpu", dtype="float32", low_memory=low) for low in (False, True))
    assert torch.allclose(final(batched, guide), final(lean, guide), atol=2e-3)


@pytest.mark.parametrize("guide", STRONG.values())
def test_without_guidance_no_negative_side_is_made(guide):
    assert len(calls(toy("sd1"), guide, cfg_scale=1.0)) <= 8
    assert set(calls(toy("sd1"), guide, cfg_scale=1.0)) == {1}


@pytest.mark.parametrize(
    ("guide", "expected"),
    [
        ("freeu", [2] * 4),
        ("apg", [2] * 4),
        ("tcfg", [2] * 4),
        ("zero", [2] * 4),
        ("threshold", [2] * 4),
        ("pag", [2, 1] * 4),
        ("seg", [2, 1] * 4),
        ("sag", [2, 1] * 4),
        ("auto:drop=mid_attn", [2, 1] * 4),
        ("perp", [2, 1] * 4),
        ("skip:below=20", [2, 1, 2, 1]),
        ("skip:below=20,every=true", [1] * 4),
        ("skip:early=0.25", [1, 1, 2, 2]),
        ("skip:below=0.01", [2] * 4),
    ],
)
def test_the_network_is_called_as_often_as_documented(guide, expected):
    assert calls(toy("sd1"), guide) == expected


def test_the_order_of_guides_means_nothing():
    model, guides = toy("sd1"), ["freeu", "apg", "zero", "pag", "sag", "threshold:mimic_scale=3"]
    together = final(model, *guides, guidance_rescale=0.5)
    assert torch.equal(final(model, *reversed(guides), guidance_rescale=0.5), together)
    for left_out in guides:
        rest = [guide for guide in guides if guide != left_out]
        assert not torch.equal(final(model, *rest, guidance_rescale=0.5), together)


def test_guides_keep_to_the_guidance_interval():
    model = toy("sd1")
    assert calls(model, "pag", guidance_interval=(0.5, 1.0)) == [1, 1, 2, 1, 2, 1]
    assert calls(model, "freeu", guidance_interval=(0.0, 0.0)) == [2, 1, 1, 1]


def test_pictures_of_one_request_do_not_share_momentum():
    request = replace(REQUEST, guides=(read_guide("apg:momentum=-0.5,threshold=1"),))
    many = [event for event in text_to_image(toy("sd1"), replace(request, count=2)) if isinstance(event, Picture)]
    alone = [e for e in text_to_image(toy("sd1"), replace(request, seed=8)) if isinstance(e, Picture)]
    assert many[1].record.pixel_sha256 == alone[0].record.pixel_sha256


def test_autoguidance_with_another_model(tmp_path):
    model, weaker = toy("sd1"), write_toy(toy("sd1", seed=1), tmp_path / "weaker.safetensors")
    guided = final(model, f"auto:model={weaker}")
    assert not torch.equal(guided, final(model))
    same = write_toy(model, tmp_path / "same.safetensors")
    assert torch.allclose(final(model, f"auto:model={same}"), final(model), atol=1e-4)
    assert calls(model, f"auto:model={weaker}", cfg_scale=1.0) == [1] * 4  # of this model's network


def test_a_weaker_model_that_does_not_fit_is_refused(tmp_path):
    model, other = toy("sd1"), write_toy(toy("sdxl"), tmp_path / "xl.safetensors")
    with pytest.raises(RequestError, match=r"xl.safetensors is Stable Diffusion XL.* context 64.*32"):
        final(model, f"auto:model={other}")
    same = write_toy(model, tmp_path / "same.safetensors")
    with pytest.raises(RequestError, match="has changed"):
        final(model, f"auto:model={same},sha256={'0' * 64}")


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        ("pag:layers=mid", "no self-attention in 'mid'; there is in .*mid_attn"),
        ("seg:layers=mid_attn+decoder.9", "decoder.9"),
        ("auto:drop=encoder.0", "encoder.0"),
        ("zero:steps=4", "fewer than all 4"),
    ],
)
def test_what_the_model_or_request_cannot_do_is_refused(guide, words):
    with pytest.raises(RequestError, match=words):
        Guides(toy("sd1"), replace(REQUEST, guides=(read_guide(guide),)))


def test_layers_are_named_by_their_paths():
    model = toy("sd1")
    one, all_of_it = final(model, "pag:layers=mid_attn.blocks.0"), final(model, "pag:layers=mid_attn")
    assert torch.equal(one, all_of_it)
    assert not torch.equal(final(model, "pag:layers=mid_attn+decoder.1"), one)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pug", "unknown guide 'pug'; did you mean 'pag'"),
        ("pag:scael=3", "unknown field 'scael'; did you mean 'scale'"),
        ("tcfg:scale=3", "it has no fields"),
        ("pag:scale=much", "must be a number"),
        ("pag:scale=1000", "from 0 to 100"),
        ("apg:eta=nan", "from 0 to 2"),
        ("skip:every=1", "true or false"),
        ("zero:steps=1.5", "must be a number"),
        ("freeu:version=3", "from 1 to 2"),
        ("threshold:mimic_mode=cosin", "cosine down"),
        ("auto", "model=FILE or drop=PART"),
        ("auto:model=a,drop=mid_attn", "not both"),
    ],
)
def test_a_text_that_names_no_guide_is_refused_with_a_hint(text, words):
    with pytest.raises(RequestError, match=words):
        read_guide(text)


def test_a_request_takes_each_kind_once():
    with pytest.raises(RequestError, match="'pag' twice"):
        replace(REQUEST, guides=(PerturbedAttention(), PerturbedAttention(scale=1)))
    with pytest.raises(RequestError, match="must hold guides"):
        replace(REQUEST, guides=("pag",))


@pytest.mark.parametrize("text", [*STRONG.values(), *NEUTRAL])
def test_a_guide_is_read_from_its_text(text):
    assert read_guide(str(read_guide(text))) == read_guide(text)


def test_the_record_holds_the_guides():
    guides = tuple(map(read_guide, STRONG.values()))
    request = replace(REQUEST, guides=guides)
    picture = next(event for event in text_to_image(toy("sd1"), request) if isinstance(event, Picture))
    assert Record.from_json(picture.record.to_json()).request.guides == guides
    for damaged in ('"kind": "pug"', '"kind": "pag", "more": 1', '"kind": ["pag"]'):
        with pytest.raises(RecordError, match="'request' is wrong"):
            Record.from_json(picture.record.to_json().replace('"kind": "pag"', damaged))


def test_zero_init_lets_the_first_steps_pass():
    model = toy("sd1", prediction="flow")
    request = replace(REQUEST, guides=(CFGZero(steps=2),))
    with prepared(model, request) as drawing:
        first, second = drawing.sigmas[1:3].tolist()
        start = drawing.start(0)
    steps = [event for event in text_to_image(model, request) if isinstance(event, Step)]
    for step, sigma in zip(steps, (first, second), strict=False):
        scale = (1 + sigma) / (1 + steps[0].sigma.item())
        assert torch.allclose(step.x, start * scale, rtol=1e-4)
    assert not torch.allclose(
        steps[2].x, start * (1 + drawing.sigmas[3].item()) / (1 + steps[0].sigma.item()), rtol=0.01
    )


def test_the_size_of_a_level_follows_from_its_places():
    assert grid(9 * 8, (9, 8)) == (9, 8)
    assert grid(5 * 4, (9, 8)) == (5, 4)
    assert grid(3 * 2, (9, 8)) == (3, 2)


def test_the_weaker_model_is_pinned_on_the_command_line(tmp_path):
    path = write_toy(toy("sd1"), tmp_path / "weaker.safetensors")
    (guide,) = DrawingFlags(guide=(f"auto:scale=2,model={path}",)).given()["guides"]
    assert guide == Autoguidance(scale=2.0, model=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(Failure, match="no model 'weeker'"):
        DrawingFlags(guide=("auto:model=weeker",)).given()
