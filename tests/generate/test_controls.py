"""Everything that steers a drawing: it takes effect, where and when it is asked to, and leaves nothing behind."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from daguerre import TextToImage, text_to_image
from daguerre.checkpoints.tables import blank
from daguerre.families.loading import load_model
from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.controls.networks import Loaded, NetworkControl, load_control
from daguerre.generate.controls.picture_prompt import PicturePrompt, vision_beside
from daguerre.generate.controls.regions import Region, Regions, half, shares
from daguerre.generate.controls.steering import Span, Steered
from daguerre.generate.controls.style import Style, usual
from daguerre.generate.drawing import Picture, prepared
from daguerre.models.unet import SDXL, UNet
from daguerre.models.vision import CLIPVisionConfig
from daguerre.provenance.record import Record, pixel_sha256
from daguerre.request import PerturbedAttention, RequestError
from tests.generate.control_files import control_lora, controlnet, ip_adapter, t2i_adapter
from tests.toy import UNETS, toy, write_toy

REQUEST = TextToImage(prompt="a red apple", steps=3, width=64, height=64, seed=7, cfg_scale=3)
STRIPES = Image.merge("RGB", [Image.linear_gradient("L").resize((64, 64)).point(lambda v: v // 32 % 2 * 255)] * 3)


def latents(model, *controls, **changes):
    """The last latents of a drawing."""
    with torch.no_grad(), prepared(model, replace(REQUEST, **changes), controls) as drawing:
        return list(drawing.steps(0, drawing.start(0)))[-1].x


def is_bare(model):
    """Whether nothing is attached to the model's networks."""
    modules = [module for part in model.parts.values() for module in part.modules()]
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    return not hooked and not any("attend" in vars(module) for module in modules)


FILES = {"ControlNet": controlnet, "T2I-Adapter": t2i_adapter}
KINDS = {
    **dict.fromkeys((*FILES, "ControlLoRA", "IP-Adapter", "IP-Adapter plus")),
    "style": Style(image=STRIPES),
    "style, inverted": Style(image=STRIPES, way="inverted", prompt="stripes"),
    "style, drawn": Style(prompt="a green sea", seed=3),
    "features": Style(image=STRIPES, weight=0, features=0.5),
    "regions": Regions(regions=(Region(mask=half("left", (64, 64)), prompt="a cat"),)),
}


def made(kind, model, folder):
    """A control of each kind, of a file where it needs one."""
    if (ready := KINDS[kind]) is not None:
        return ready
    path, config = folder / "control.safetensors", model.unet.config
    if kind.startswith("IP-Adapter"):
        loaded = load_control(ip_adapter(path, config, plus=kind.endswith("plus")), model)
        return PicturePrompt(loaded=loaded, vision=tower(), image=STRIPES)
    path = control_lora(path, model.unet) if kind == "ControlLoRA" else FILES[kind](path, config)
    return NetworkControl(loaded=load_control(path, model), image=STRIPES)


def tower():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = blank(CLIPVisionConfig(28, 14, 16, 2, 2, projection=12)).to_empty(device="cpu")
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return eyes(network.eval().requires_grad_(False))


def eyes(network):
    return Loaded(kind="CLIP", network=network, name="clip", sha256="")


@pytest.fixture(scope="module")
def plain(model):
    return latents(model)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_takes_effect_and_leaves_nothing(kind, model, plain, tmp_path):
    control, before = made(kind, model, tmp_path), {k: v.clone() for k, v in model.unet.state_dict().items()}
    steered = latents(model, control)
    assert steered.isfinite().all()
    assert (steered - plain).abs().max() > 1e-3
    assert torch.equal(latents(model, control), steered)
    assert is_bare(model)
    assert torch.equal(latents(model), plain)
    assert all(torch.equal(value, before[name]) for name, value in model.unet.state_dict().items())


def test_a_weight_of_0_is_no_control(model, plain, net, tmp_path):
    assert torch.equal(latents(model, NetworkControl(loaded=net, image=STRIPES, weight=0)), plain)
    assert torch.equal(latents(model, Style(image=STRIPES, weight=0)), plain)
    loaded = load_control(ip_adapter(tmp_path / "ip.safetensors", model.unet.config, plus=False), model)
    assert torch.equal(latents(model, PicturePrompt(loaded=loaded, vision=tower(), image=STRIPES, weight=0)), plain)


def test_a_control_holds_for_its_span_alone(model, net):
    early, late = (NetworkControl(loaded=net, image=STRIPES, span=span) for span in (Span(0, 1 / 3), Span(2 / 3, 1)))
    with torch.no_grad():
        states = {}
        for name, controls in {"plain": (), "early": (early,), "late": (late,)}.items():
            with prepared(model, REQUEST, controls) as drawing:
                states[name] = [step.x for step in drawing.steps(0, drawing.start(0))]
    assert not torch.equal(states["early"][0], states["plain"][0])
    assert torch.equal(states["late"][1], states["plain"][1])
    assert not torch.equal(states["late"][2], states["plain"][2])
    with pytest.raises(RequestError, match="start < end"):
        Span(0.5, 0.5)


def test_modes_weigh_as_a1111_does(net):
    controls = {mode: NetworkControl(loaded=net, image=STRIPES, mode=mode) for mode in ("balanced", "prompt", "guess")}
    assert controls["balanced"]._shares(13) == [1.0] * 13
    prompt = controls["prompt"]._shares(13)
    assert (prompt[0], prompt[-1]) == (pytest.approx(0.0994140), 1)
    assert controls["prompt"]._shares(10)[-1] == pytest.approx(0.825**3)
    guess = controls["guess"]._shares(13)
    assert (guess[0], guess[-1]) == (pytest.approx(0.1), 1)


def test_where_the_picture_leads_the_negative_side_is_not_steered(model, net):
    def sides(**how):
        with torch.no_grad(), prepared(model, REQUEST, [NetworkControl(loaded=net, image=STRIPES, **how)]) as drawing:
            (cond, _), negative = drawing.conditions[0].positive[0], drawing.conditions[0].negative
            x, sigma = drawing.start(0), drawing.sigmas[0]
            return drawing.unguided(x, sigma, cond), drawing.unguided(x, sigma, negative)

    (plain, bare), (led, alone), both = sides(weight=0), sides(mode="control"), sides()
    assert torch.equal(alone, bare)
    assert not torch.equal(led, plain)
    assert not torch.equal(both[1], bare)


def test_several_controls_add_up_and_guidance_may_be_batched_or_not(model, net, tmp_path):
    other = load_control(controlnet(tmp_path / "other.safetensors", model.unet.config, seed=9), model)
    pair = [NetworkControl(loaded=one, image=STRIPES, weight=0.6) for one in (net, other)]
    both = latents(model, *pair)
    assert all((both - latents(model, one)).abs().max() > 1e-3 for one in pair)
    with torch.no_grad(), prepared(model, REQUEST, pair) as drawing:
        assert isinstance(drawing.unguided.network, Steered)
        (cond, _), negative = drawing.conditions[0].positive[0], drawing.conditions[0].negative
        x, sigma = drawing.start(0), drawing.sigmas[0]
        guidance = drawing.conditions[0].guidance(drawing.unguided, 3.0, batched=True)
        split = replace(guidance, batched=False)
        for one, two in zip(guidance.estimates(x, sigma, cond), split.estimates(x, sigma, cond), strict=True):
            assert (one - two).abs().max() < 1e-4
        assert negative.side.item() == 0


def test_in_low_memory_mode_a_control_steers_as_well(tmp_path):
    path = write_toy(toy("sd1"), tmp_path / "toy.safetensors")
    file = control_lora(tmp_path / "lora.safetensors", toy("sd1").unet)
    found = []
    for lean in (False, True):
        model = load_model(path, device="cpu", dtype="float32", low_memory=lean)
        found.append(latents(model, NetworkControl(loaded=load_control(file, model), image=STRIPES)))
    assert (found[0] - found[1]).abs().max() < 1e-3


def test_controls_go_with_guides_that_change_attention(model):
    style = Style(image=STRIPES)
    guided = latents(model, style, guides=(PerturbedAttention(scale=2.0),))
    assert guided.isfinite().all()
    assert not torch.equal(guided, latents(model, style))


def test_a_network_that_attends_little_takes_features_over_by_default():
    assert [usual(toy(family).unet.config) for family in ("sd1", "tintype")] == [0, 0.5]
    assert usual(SDXL) == 0
    model = toy("tintype")
    assert torch.equal(latents(model, Style(image=STRIPES)), latents(model, Style(image=STRIPES, features=0.5)))
    *_, picture = text_to_image(model, REQUEST, [Style(image=STRIPES)])
    assert picture.record.controls[0].mode == "aligned, features 0.5"


def test_style_reaches_a_level_that_has_a_single_place():
    """As the lowest of Stable Diffusion's four in a picture of 64 x 64 pixels."""
    torch.manual_seed(0)
    unet = UNet(replace(UNETS["sd1"], channels=(32, 32, 32, 32), depth=(1, 1, 1, 1))).eval().requires_grad_(False)
    model = toy("sd1", unet=unet)
    styled = latents(model, Style(image=STRIPES, features=0.5))
    assert (styled - latents(model)).abs().max() > 1e-3


@pytest.mark.parametrize("family", UNETS)
def test_every_family_may_be_steered(family, tmp_path):
    model = toy(family)
    config = replace(model.unet.config, channels_in=4)
    net = load_control(controlnet(tmp_path / "net.safetensors", config), model)
    control = NetworkControl(loaded=net, image=STRIPES)
    assert (latents(model, control) - latents(model)).abs().max() > 1e-3


def test_the_record_tells_of_controls_and_their_pictures_and_reads_back(model, net):
    control = NetworkControl(loaded=net, image=STRIPES, module="canny", weight=0.8, span=Span(0, 0.5))
    mask = half("left", (64, 64))
    regions = Regions(regions=(Region(mask=mask, prompt="a cat"),), base=0.2)
    *_, picture = text_to_image(model, REQUEST, [control, regions])
    assert isinstance(picture, Picture)
    record = picture.record
    first, second = record.controls
    assert (first.kind, first.module, first.name, first.weight, first.end) == ("ControlNet", "canny", "canny", 0.8, 0.5)
    assert first.sha256 == net.sha256 != ""
    assert (second.kind, second.name, second.mode) == ("region", "a cat", "base 0.2")
    told = {used.role: used.sha256 for used in record.pictures}
    assert told == {"control 1": pixel_sha256(STRIPES), "control 2": pixel_sha256(mask)}
    assert Record.from_json(record.to_json()) == record


def test_each_half_is_drawn_by_its_own_prompt(model):
    """Where a region's prompt holds alone, and where it does not, the network predicts as under that prompt."""
    regions = Regions(regions=tuple(Region(mask=half(at, (64, 64)), prompt=at) for at in ("left", "right")))
    with torch.no_grad(), prepared(model, REQUEST, [regions]) as drawing:
        (cond, _), negative = drawing.conditions[0].positive[0], drawing.conditions[0].negative
        x, sigma = drawing.start(0), drawing.sigmas[0]
        blended, bare = drawing.unguided(x, sigma, cond), model.denoiser()(x, sigma, negative._replace(side=None))
        alone = [model.denoiser()(x, sigma, model.encode(replace(REQUEST, prompt=at))[0]) for at in ("left", "right")]
        assert torch.equal(drawing.unguided(x, sigma, negative), bare)
    assert torch.allclose(blended[..., :4], alone[0][..., :4], atol=1e-5)
    assert torch.allclose(blended[..., 4:], alone[1][..., 4:], atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_the_shares_of_prompts_are_one_in_all():
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :, :4], masks[1, :, :, 2:6] = 1, 3
    weights = shares(masks, 0.25, (8, 8))[:, 0, 0]
    assert torch.allclose(weights.sum(0), torch.ones(8))
    assert weights[:, 0].tolist() == [0.25, 0.75, 0]
    assert weights[:, 3].tolist() == [0.25, 0.1875, 0.5625]
    assert weights[:, 7].tolist() == [1, 0, 0]


def test_what_does_not_fit_is_refused_before_anything_is_drawn(model, net, tmp_path):
    big = Regions(regions=(Region(mask=half("left", (128, 64)), prompt="a cat"),))
    with pytest.raises(RequestError, match=r"region 1 has 128 x 64 pixels and the picture 64 x 64"):
        latents(model, big)
    twice = [Regions(regions=(Region(mask=half("left", size), prompt="a cat"),)) for size in ((64, 64), (128, 128))]
    assert torch.equal(*(latents(model, one) for one in twice))
    with pytest.raises(RequestError, match="black everywhere"):
        latents(model, Regions(regions=(Region(mask=Image.new("L", (64, 64)), prompt="a cat"),)))
    with pytest.raises(RequestError, match="changes over the steps"):
        latents(model, Regions(regions=(Region(mask=half("top", (64, 64)), prompt="[a:b:0.5]"),)))
    with pytest.raises(CheckpointError, match=r"canny.*is for sd1.*the model is sdxl"):
        load_control(controlnet(tmp_path / "canny.safetensors", model.unet.config), toy("sdxl"))
    with pytest.raises(RequestError, match="unknown kind of control 'cany'"):
        NetworkControl(loaded=net, image=STRIPES, module="cany")
    with pytest.raises(RequestError, match="nothing in the control picture is transparent"):
        latents(model, NetworkControl(loaded=net, image=STRIPES, module="inpaint"))
    plus = load_control(ip_adapter(tmp_path / "ip.safetensors", model.unet.config, plus=True), model)
    with pytest.raises(RequestError, match="16 features and the image encoder gives 20"):
        PicturePrompt(loaded=plus, vision=eyes(blank(CLIPVisionConfig(28, 14, 20, 1, 2))), image=STRIPES)
    with pytest.raises(RequestError, match="canny is a ControlNet and sees no pictures"):
        PicturePrompt(loaded=plus, vision=net, image=STRIPES)
    with pytest.raises(RequestError, match="--image-encoder"):
        vision_beside(tmp_path / "ip.safetensors")
    with pytest.raises(RequestError, match="needs a reference"):
        Style()
    regions = Regions(regions=(Region(mask="left", prompt="a cat"),))
    with pytest.raises(RequestError, match="give it before them"):
        list(text_to_image(model, REQUEST, [regions, Style(prompt="ink")]))
