"""Controls where a picture is drawn in parts: each part is steered by what of a hint or a mask lies over it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre import Edit, ImageToImage, Inpaint, Outpaint, TextToImage, edit, inpaint, outpaint, text_to_image
from daguerre.diffusion.denoiser import Cond
from daguerre.generate.controls.networks import NetworkControl, load_control
from daguerre.generate.controls.picture_prompt import PicturePrompt
from daguerre.generate.controls.regions import Region, Regions
from daguerre.generate.controls.style import Style
from daguerre.generate.drawing import Picture, prepared
from daguerre.generate.edit import TowardsPicture
from daguerre.generate.heat_maps import HeatMaps
from daguerre.generate.image_to_image import image_to_image
from daguerre.generate.outpaint import planned
from daguerre.generate.tiled_upscale import InTiles, tiled_upscale
from daguerre.generate.window import Window
from daguerre.provenance.record import Record
from daguerre.request import RequestError, TiledUpscale
from tests.generate.control_files import controlnet, ip_adapter, t2i_adapter
from tests.generate.test_controls import is_bare, tower
from tests.generate.test_upscale import drawing as drawn_by_hand
from tests.toy import toy

REQUEST = TextToImage(prompt="a red apple", steps=3, width=64, height=64, seed=7, cfg_scale=3)
WIDE = replace(REQUEST, width=128)
UPSCALE = TiledUpscale(prompt="a red apple", steps=3, seed=7, tile=64, cfg_scale=2, strength=0.5, upscaler="Lanczos")
ON = Outpaint(prompt="a red apple", steps=1, seed=7, width=64, height=64, mask_blur=2, right=100)
HINT = Image.effect_noise((128, 64), 90).convert("RGB")
LEFT, RIGHT = HINT.crop((0, 0, 64, 64)), HINT.crop((64, 0, 128, 64))


def noise(width):
    return torch.randn(1, 4, 8, width // 8, generator=torch.Generator().manual_seed(0))


def estimate(model, request, controls, x, sigma=2.0):
    """What the network makes of x under these controls and the prompt."""
    with torch.no_grad(), prepared(model, request, controls) as drawing:
        return drawing.unguided(x, torch.tensor(sigma), drawing.cond)


def last(events):
    *_, picture = events
    assert isinstance(picture, Picture)
    return picture


def half_black(image, box):
    changed = image.copy()
    changed.paste(0, box)
    return changed


def test_a_window_cuts_what_lies_in_it_and_draws_edges_on():
    values = torch.arange(12.0).reshape(1, 3, 4)
    assert torch.equal(Window.whole(4, 3).cut(values), values)
    assert Window((4, 3), (1, 1, 3, 3)).cut(values).tolist() == [[[5, 6], [9, 10]]]
    assert Window((4, 3), (-1, 1, 1, 4)).cut(values).tolist() == [[[4, 4], [8, 8], [8, 8]]]
    assert Window((4, 3), (-1, 1, 1, 4), (True, True)).cut(values).tolist() == [[[7, 4], [11, 8], [3, 0]]]
    assert Window((4, 3), (1, 1, 3, 3)).scaled(2)[:2] == ((8, 6), (2, 2, 6, 6))
    assert Window((40, 24), (16, 0, 40, 24)).scaled(1, 16)[:2] == ((40, 24), (16, 0, 48, 32))
    assert Window((40, 24), (16, 0, 40, 24)).size == (24, 24)
    assert Window((40, 24), (16, 8, 40, 24)).within(Window((40, 24), (8, 16, 40, 32)))[:2] == ((32, 16), (8, -8, 32, 8))


def cut(loaded, image):
    return NetworkControl(loaded=loaded, image=image)


@pytest.mark.parametrize("kind", ["ControlNet", "T2I-Adapter"])
def test_each_tile_is_steered_by_the_part_of_the_hint_over_it(kind, model, tmp_path):
    file = {"ControlNet": controlnet, "T2I-Adapter": t2i_adapter}[kind](tmp_path / "x.safetensors", model.unet.config)
    loaded, x = load_control(file, model), noise(128)
    wide = estimate(model, WIDE, [InTiles(64, 0, [cut(loaded, HINT)])], x)
    for columns, part in ((slice(0, 8), LEFT), (slice(8, 16), RIGHT)):
        alone = estimate(model, REQUEST, [cut(loaded, part)], x[..., columns].contiguous())
        torch.testing.assert_close(wide[..., columns], alone)
    other = estimate(model, WIDE, [InTiles(64, 0, [cut(loaded, half_black(HINT, (64, 0, 128, 64)))])], x)
    assert torch.equal(other[..., :8], wide[..., :8])
    assert (other[..., 8:] - wide[..., 8:]).abs().max() > 1e-3
    assert is_bare(model)


def test_the_hint_is_made_of_the_whole_picture_and_then_cut(model, net):
    """Each tile is of one color, and there is an edge between them."""
    left = Image.new("RGB", (128, 64))
    left.paste("white", (0, 0, 64, 64))
    canny = NetworkControl(loaded=net, image=left, module="canny")
    wide = estimate(model, WIDE, [InTiles(64, 0, [canny])], noise(128))
    flat = estimate(model, WIDE, [InTiles(64, 0, [replace(canny, image=Image.new("RGB", (128, 64)))])], noise(128))
    assert (wide - flat).abs().max() > 1e-3


def test_a_hint_of_another_resolution_is_enlarged_to_the_picture(model, net):
    small, large = (HINT.resize(size, Image.Resampling.LANCZOS) for size in ((96, 48), (128, 64)))
    refit = small.resize((128, 64), Image.Resampling.LANCZOS)
    by = {name: estimate(model, WIDE, [InTiles(64, 0, [cut(net, image)])], noise(128))
          for name, image in {"small": small, "refit": refit, "large": large}.items()}  # fmt: skip
    torch.testing.assert_close(by["small"], by["refit"])
    assert not torch.allclose(by["small"], by["large"])


def styles_and_prompts(kind, model, folder):
    if kind == "IP-Adapter":
        loaded = load_control(ip_adapter(folder / "ip.safetensors", model.unet.config, plus=False), model)
        return PicturePrompt(loaded=loaded, vision=tower(), image=HINT)
    return {
        "style": Style(image=HINT),
        "style, inverted": Style(image=HINT, way="inverted", prompt="noise"),
        "style, drawn": Style(prompt="a green sea", seed=3),
    }[kind]


@pytest.mark.parametrize("kind", ["IP-Adapter", "style", "style, inverted", "style, drawn"])
def test_what_is_no_hint_holds_for_every_tile_as_for_a_picture_of_its_size(kind, model, tmp_path):
    control, x = styles_and_prompts(kind, model, tmp_path), noise(128)
    wide, plain = (estimate(model, WIDE, [InTiles(64, 0, own)], x) for own in ([control], []))
    for columns in (slice(0, 8), slice(8, 16)):
        tile = x[..., columns].contiguous()
        torch.testing.assert_close(wide[..., columns], estimate(model, REQUEST, [control], tile))
        assert (wide[..., columns] - plain[..., columns]).abs().max() > 1e-3


def test_a_tile_is_drawn_by_the_prompts_of_the_regions_in_it(model):
    x, regions = noise(128), Regions(regions=(Region(mask="right", prompt="a car"),))
    wide = estimate(model, WIDE, [InTiles(64, 0, [regions])], x)
    torch.testing.assert_close(wide[..., :8], estimate(model, REQUEST, [], x[..., :8].contiguous()))
    car = replace(REQUEST, prompt="a car")
    torch.testing.assert_close(wide[..., 8:], estimate(model, car, [], x[..., 8:].contiguous()))
    with pytest.raises(RequestError, match=r"mask is 'north'; give a picture, or left, right"):
        Regions(regions=(Region(mask="north", prompt="a car"),))


def test_a_half_by_name_is_one_of_the_picture_whatever_its_size(model):
    sides = [Regions(regions=(Region(mask=mask, prompt="a car"),)) for mask in ("left", Image.new("L", (64, 64)))]
    sides[1].regions[0].mask.paste(255, (0, 0, 32, 64))
    *_, made = text_to_image(model, REQUEST, [sides[0]])
    *_, by_picture = text_to_image(model, REQUEST, [sides[1]])
    assert made.record.pixel_sha256 == by_picture.record.pixel_sha256
    assert (made.record.controls[0].module, made.record.pictures) == ("left", ())


def test_the_picture_that_is_drawn_over_is_a_control_s_by_default(model, net):
    tile, given = NetworkControl(loaded=net, module="tile"), drawn_by_hand(64)
    made = last(tiled_upscale(model, UPSCALE, given, [tile]))
    large = given.resize((128, 128), Image.Resampling.LANCZOS)
    by_hand = last(tiled_upscale(model, UPSCALE, given, [replace(tile, image=large)]))
    assert made.record.pixel_sha256 == by_hand.record.pixel_sha256
    assert made.record.pixel_sha256 != last(tiled_upscale(model, UPSCALE, given)).record.pixel_sha256
    assert [used.role for used in made.record.pictures] == ["image"]
    assert [used.role for used in by_hand.record.pictures] == ["image", "control 1"]
    assert Record.from_json(made.record.to_json()) == made.record
    over = ImageToImage(prompt="a red apple", steps=2, seed=7, strength=0.5)
    pair = [last(image_to_image(model, over, given, [replace(tile, image=image)])) for image in (None, given)]
    assert pair[0].record.pixel_sha256 == pair[1].record.pixel_sha256
    with pytest.raises(RequestError, match=r"ControlNet canny has no picture to see.*KIND:MODEL:PICTURE"):
        next(text_to_image(model, REQUEST, [tile]))


@pytest.mark.parametrize("module", ["inpaint", "tile"])
def test_a_window_s_own_picture_is_what_is_known_by_then(module, model, net):
    """As an outpainter sees it: the given picture in the first window, and what was drawn there in the second."""
    given, request = drawn_by_hand(64), replace(ON, right=64, fill="original")
    padded = Image.new("RGBA", (128, 64))
    padded.paste(given, (0, 0))
    hint = padded if module == "inpaint" else padded.convert("RGB")
    control = NetworkControl(loaded=net, module=module)
    own, fixed, plain = (
        np.asarray(last(outpaint(model, request, given, controls)).image)
        for controls in ([control], [replace(control, image=hint)], [])
    )
    assert planned(request, (64, 64), (64, 64)).corners == [(32, 0), (64, 0)]
    assert np.array_equal(own[:, :90], fixed[:, :90])
    assert not np.array_equal(own[:, 96:], fixed[:, 96:])
    assert not np.array_equal(own[:, 64:90], plain[:, 64:90])
    alone, second = replace(request, right=32, seed=8), replace(request, right=32, count=2)
    pair = [last(outpaint(model, one, given, [control])).record.pixel_sha256 for one in (alone, second)]
    assert pair[0] == pair[1]


def masked(box, size=(128, 128)):
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def test_where_only_the_masked_part_is_drawn_the_hint_over_it_steers(model, net):
    given, mask, hint = drawn_by_hand(128), masked((80, 80, 100, 100)), Image.effect_noise((128, 128), 90)
    request = Inpaint(prompt="a red apple", steps=2, seed=7, only_masked=True, padding=8, width=64, height=64)

    def made(*controls):
        return last(inpaint(model, request, given, mask, controls)).record.pixel_sha256

    beside, over = half_black(hint, (0, 0, 64, 128)), half_black(hint, (84, 84, 96, 96))
    assert made(cut(net, hint)) == made(cut(net, beside)) != made(cut(net, over))
    left, right = (made(Regions(regions=(Region(mask=at, prompt="a car"),))) for at in ("left", "right"))
    assert left == made() != right
    with pytest.raises(RequestError, match=r"has 128 x 64 pixels and the whole picture 128 x 128"):
        made(cut(net, HINT))


def test_an_inpainting_control_sees_the_mask_that_is_drawn_over(model, net):
    given, mask = drawn_by_hand(64), masked((16, 16, 40, 40), (64, 64))
    erased = given.copy()
    erased.putalpha(mask.point(lambda value: 255 - value))
    request, control = Inpaint(prompt="a red apple", steps=2, seed=7), NetworkControl(loaded=net, module="inpaint")
    controls = {
        "masked": control,
        "erased": replace(control, image=erased),
        "tile": replace(control, module="tile"),
        "whole": replace(control, module="tile", image=given),
    }
    made = {name: last(inpaint(model, request, given, mask, [one])).record.pixel_sha256
            for name, one in controls.items()}  # fmt: skip
    assert made["masked"] == made["erased"] != made["tile"] == made["whole"]


def test_each_window_is_steered_by_the_part_of_the_hint_over_it(model, net):
    given = drawn_by_hand(64)
    hint = Image.effect_noise((164, 64), 90).convert("RGB")
    first, last_window = planned(ON, (64, 64), (64, 64)).seen(0), planned(ON, (64, 64), (64, 64)).seen(3)
    assert (first.box, last_window.box, first.picture) == ((32, 0, 96, 64), (104, 0, 168, 64), (164, 64))
    one, other = (
        np.asarray(last(outpaint(model, ON, given, [cut(net, image)])).image)
        for image in (hint, half_black(hint, (160, 0, 164, 64)))
    )
    assert np.array_equal(one[:, :150], other[:, :150])
    assert not np.array_equal(one[:, 160:], other[:, 160:])
    bare = np.asarray(last(outpaint(model, ON, given)).image)
    assert all((one[:, x : x + 16] != bare[:, x : x + 16]).any() for x in range(64, 160, 16))


def test_windows_lie_over_the_result_though_it_begins_off_the_grid(model):
    plan = planned(replace(ON, left=5, right=40), (64, 64), (64, 64))
    columns = torch.arange(109.0).expand(64, -1)
    for k, (x, _) in enumerate(plan.corners):
        seen = plan.seen(k).cut(columns)[0].tolist()
        assert seen == [min(max(0, x - 3 + i), 108) for i in range(64)]


@pytest.mark.parametrize("kind", ["IP-Adapter", "style, drawn", "regions"])
def test_what_is_no_hint_holds_for_every_window(kind, model, tmp_path):
    control = (
        Regions(regions=(Region(mask="right", prompt="a car"),))
        if kind == "regions"
        else styles_and_prompts(kind, model, tmp_path)
    )
    plain, steered = (np.asarray(last(outpaint(model, ON, drawn_by_hand(64), own)).image) for own in ([], [control]))
    changed = (plain != steered).any(axis=(0, 2))
    assert not changed[:59].any()
    assert changed[100:].all() if kind == "regions" else changed[64:].all()


@pytest.mark.parametrize("kind", ["ControlNet", "T2I-Adapter", "IP-Adapter", "style", "style, drawn", "regions"])
def test_an_edit_is_steered_in_all_that_its_guidance_weighs(kind, tmp_path):
    model, request = toy("sd1-edit"), Edit(prompt="make it snow", steps=2, seed=7)
    config = replace(model.unet.config, channels_in=4)
    if kind in ("ControlNet", "T2I-Adapter"):
        write = {"ControlNet": controlnet, "T2I-Adapter": t2i_adapter}[kind]
        control = cut(load_control(write(tmp_path / "x.safetensors", config), model), HINT)
    elif kind == "regions":
        control = Regions(regions=(Region(mask="left", prompt="make it rain"),))
    else:
        control = styles_and_prompts(kind, model, tmp_path)
    seen = []
    hook = model.unet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    made, plain = (last(edit(model, request, drawn_by_hand(64), own)).record for own in ([control], []))
    hook.remove()
    assert 4 in seen
    assert made.pixel_sha256 != plain.pixel_sha256
    assert len(made.controls) == 1
    assert is_bare(model)


def test_passes_towards_the_picture_are_on_the_negative_side(model):
    sides, told = [], torch.tensor([1.0, 0.0])

    def network(x, t, tokens, vector, side):
        sides.append(side.tolist())
        return x[:, :4]

    picture, tokens = torch.ones(1, 4, 2, 2), torch.zeros(2, 3, 5)
    towards = TowardsPicture(network, Cond(tokens[1:], None, picture, torch.zeros(1)), 3.0)
    x = torch.zeros(2, 8, 2, 2)
    towards(x, torch.zeros(2), tokens, None, side=told)
    towards(x, torch.zeros(2), torch.cat([tokens, tokens], 1), None, side=told)
    assert sides == [[1, 0, 0, 0], [0, 0], [1, 0]]


def test_a_style_s_reference_is_drawn_from_noise_however_little_is_drawn_over(model):
    """By its own prompt and as a whole: a style hangs on nothing that is drawn over."""
    over = ImageToImage(prompt=REQUEST.prompt, steps=3, width=64, height=64, seed=7, cfg_scale=3, strength=0.3)
    one, other = (estimate(model, request, [Style(prompt="a green sea")], noise(64)) for request in (REQUEST, over))
    torch.testing.assert_close(one, other)


def test_maps_of_words_are_joined_from_tiles_and_go_with_controls(model, net):
    x, wide, sums = noise(128), HeatMaps(["apple"]), []
    with torch.no_grad(), prepared(model, WIDE, [InTiles(64, 0, [cut(net, HINT), wide])]) as drawing:
        drawing.guided()
        drawing.unguided(x, torch.tensor(2.0), drawing.cond)
    for columns, part in ((slice(0, 8), LEFT), (slice(8, 16), RIGHT)):
        maps = HeatMaps(["apple"])
        with torch.no_grad(), prepared(model, REQUEST, [cut(net, part), maps]) as drawing:
            drawing.guided()
            drawing.unguided(x[..., columns].contiguous(), torch.tensor(2.0), drawing.cond)
        sums.append(maps._sums)
    torch.testing.assert_close(wide._sums, torch.cat(sums, -1))
    assert wide.of("apple").shape == (64, 128)
    around = HeatMaps(["apple"])
    last(text_to_image(model, replace(WIDE, tiling="x", steps=1), [InTiles(64, 0.5, [around])]))
    assert (around._layers[:, :, 0] > 0).all()
    assert len(around._layers.unique()) == 1
    watched, plain = (last(text_to_image(model, REQUEST, [cut(net, LEFT), *own])) for own in ([HeatMaps()], []))
    assert watched.record.pixel_sha256 == plain.record.pixel_sha256
    with pytest.raises(RequestError, match="heat maps are of a picture that is drawn at once"):
        next(outpaint(model, ON, drawn_by_hand(64), [HeatMaps()]))


def test_a_hint_of_another_shape_is_refused_before_anything_is_drawn(model, net):
    def drawn(module, inputs):
        raise AssertionError("the network was called")

    hook = model.unet.register_forward_pre_hook(drawn)
    try:
        with pytest.raises(RequestError, match=r"of canny has 128 x 64 pixels and the whole picture 128 x 128"):
            next(tiled_upscale(model, UPSCALE, drawn_by_hand(64), [cut(net, HINT)]))
        with pytest.raises(RequestError, match=r"of canny has 64 x 64 pixels and the whole picture 164 x 64"):
            next(outpaint(model, ON, drawn_by_hand(64), [cut(net, LEFT)]))
        regions = Regions(regions=(Region(mask=Image.new("L", (64, 64), 255), prompt="a car"),))
        with pytest.raises(RequestError, match=r"region 1 has 64 x 64 pixels and the picture 164 x 64"):
            next(outpaint(model, ON, drawn_by_hand(64), [regions]))
    finally:
        hook.remove()
    almost = HINT.resize((125, 62))  # a side of the picture is rounded to what can be drawn
    assert estimate(model, WIDE, [InTiles(64, 0, [cut(net, almost)])], noise(128)).isfinite().all()
    assert estimate(model, WIDE, [InTiles(64, 0, [replace(cut(net, LEFT), resize="stretch")])], noise(128)).any()
