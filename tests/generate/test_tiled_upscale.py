from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre.generate.controls import Region, Regions
from daguerre.generate.drawing import Picture, prepared
from daguerre.generate.given import used
from daguerre.generate.image_to_image import image_to_image
from daguerre.generate.refiner import Refiner
from daguerre.generate.tiled_upscale import InTiles, tiled_upscale, with_size
from daguerre.generate.upscale import find_upscaler, load_upscaler
from daguerre.request import (
    Autoguidance,
    FreeU,
    ImageToImage,
    PerturbedAttention,
    RequestError,
    SelfAttentionGuidance,
    SmoothedEnergy,
    TextToImage,
    TiledUpscale,
)
from tests.checkpoints.esrgan_files import compact_file
from tests.toy import toy

REQUEST = TiledUpscale(prompt="a red apple", steps=4, seed=7, tile=64, cfg_scale=2, strength=0.5, upscaler="Lanczos")


def picture(size=(64, 48)):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 3 % 256, y * 4 % 256, (x + y) % 256], axis=-1).astype(np.uint8))


def drawn(request, model=None, image=None):
    *steps, made = tiled_upscale(model or toy(), request, image or picture())
    assert isinstance(made, Picture)
    return made, steps


def test_the_network_sees_nothing_but_tiles():
    model, seen = toy(), []
    hook = model.unet.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[2:])))
    made, steps = drawn(REQUEST, model)
    hook.remove()
    assert made.image.size == (128, 96)
    assert set(seen) == {(8, 8)}
    assert len(seen) == 3 * 2 * len(steps)  # tiles across and down, steps


def test_a_tile_that_covers_all_is_image_to_image():
    whole = TiledUpscale(prompt="a red apple", steps=4, seed=7, tile=128, cfg_scale=2, strength=0.5, upscaler="Lanczos")
    large = picture().resize((128, 96), Image.LANCZOS)
    plain = ImageToImage(prompt="a red apple", steps=4, seed=7, cfg_scale=2, strength=0.5)
    *_, alone = image_to_image(toy(), plain, large)
    difference = np.asarray(drawn(whole)[0].image, int) - np.asarray(alone.image, int)
    assert np.abs(difference).max() <= 1
    assert drawn(REQUEST)[0].record.pixel_sha256 != alone.record.pixel_sha256


def test_a_picture_too_small_to_be_enlarged_that_far_by_a_network_is_resized_for_the_rest():
    made, _ = drawn(replace(REQUEST, upscaler="built-in"), image=picture((1, 2)))
    assert made.image.size == (64, 64)


def test_the_same_request_draws_the_same_and_its_record_tells_of_the_given_picture():
    first, again = (drawn(REQUEST)[0] for _ in range(2))
    assert first.record.pixel_sha256 == again.record.pixel_sha256
    assert first.record.pictures == (used("image", picture()),)
    then = first.record.again()
    assert (type(then), then.width, then.height) == (TiledUpscale, 128, 96)
    assert drawn(then)[0].record.pixel_sha256 == first.record.pixel_sha256
    assert type(first.record).from_json(first.record.to_json()) == first.record


def test_an_upscaler_enlarges_first_and_is_recorded(tmp_path):
    torch.save({"params": compact_file(scale=2)}, tmp_path / "2x.pth")
    by_file = TiledUpscale(
        prompt="x", steps=2, seed=7, tile=64, cfg_scale=1, strength=0.1, upscaler=f"{tmp_path}/2x.pth"
    )
    made, _ = drawn(by_file)
    assert [one.role for one in made.record.pictures] == ["image", "upscaler"]
    assert made.record.pictures[1].sha256 == load_upscaler(tmp_path / "2x.pth").sha256
    plain, _ = drawn(TiledUpscale(prompt="x", steps=2, seed=7, tile=64, cfg_scale=1, strength=0.1, upscaler="Nearest"))
    assert made.record.pixel_sha256 != plain.record.pixel_sha256


def test_sizes():
    assert (with_size(REQUEST, (50, 41)).width, with_size(REQUEST, (50, 41)).height) == (96, 80)
    wide = TiledUpscale(prompt="x", enlarge=3, width=256)
    assert (with_size(wide, (64, 48)).width, with_size(wide, (64, 48)).height) == (256, 144)
    with pytest.raises(RequestError, match="width is 6000"):
        with_size(TiledUpscale(prompt="x", enlarge=2), (3000, 20))


def test_sdxl_is_told_the_size_of_a_tile():
    model, seen = toy("sdxl"), []
    hook = model.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3][0].clone()))
    drawn(REQUEST, model)
    *_, whole = image_to_image(
        model,
        ImageToImage(prompt="a red apple", steps=4, seed=7, cfg_scale=2, strength=0.5, width=64, height=64),
        picture(),
    )
    hook.remove()
    assert whole.image.size == (64, 64)
    assert all(torch.equal(vector, seen[-1]) or torch.equal(vector, seen[-2]) for vector in seen[:4])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"upscaler": "4x-none.pth"}, "upscaler is '4x-none.pth'; give an upscaler's file"),
        ({"tile": 60}, "tile is 60"),
        ({"tile": 65}, "tile is 65; it must be a multiple of 8"),
        ({"overlap": 0.9}, "overlap is 0.9"),
        ({"enlarge": 0.5}, "enlarge is 0.5"),
        ({"upscaler": 5}, "upscaler must be a text"),
    ],
)
def test_what_cannot_be_drawn_is_refused(fields, words):
    with pytest.raises(RequestError) as error:
        find_upscaler(TiledUpscale(prompt="x", **fields).upscaler)
    assert words in str(error.value)


@pytest.mark.parametrize(("way", "axes"), [("x", [3]), ("y", [2]), ("both", [2, 3])])
def test_a_picture_that_repeats_does_so_over_its_tiles(way, axes):
    """Moved by as much as tiles are apart, it is predicted to be the same, moved."""
    model, x = toy(), torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1))
    request = TextToImage(prompt="a red apple", width=192, height=192, tiling=way, seed=1)
    turn = {"shifts": [8] * len(axes), "dims": axes}

    def predicted(request, x):
        with torch.no_grad(), prepared(model, request, [InTiles(96, 1 / 3)]) as drawing:
            return drawing.unguided(x, torch.tensor(2.0), drawing.cond)

    made, moved = (predicted(request, one) for one in (x, x.roll(**turn)))
    torch.testing.assert_close(made.roll(**turn), moved, atol=1e-4, rtol=1e-4)
    plain, moved = (predicted(replace(request, tiling="off"), one) for one in (x, x.roll(**turn)))
    assert (plain.roll(**turn) - moved).abs().max() > 1e-2
    assert not any("_conv_forward" in vars(module) for module in model.unet.modules())


def test_the_edges_of_tiles_do_not_meet_where_those_of_the_picture_do():
    model, x = toy(), torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(1))
    wide = TextToImage(prompt="a red apple", width=128, height=64, tiling="x", seed=1)
    with torch.no_grad(), prepared(model, wide, [InTiles(64, 0)]) as drawing:
        made = drawing.unguided(x, torch.tensor(2.0), drawing.cond)
    with torch.no_grad(), prepared(model, replace(wide, width=64, tiling="off")) as drawing:
        alone = drawing.unguided(x[..., 8:].contiguous(), torch.tensor(2.0), drawing.cond)
    torch.testing.assert_close(made[..., 8:], alone)


def test_a_tile_from_edge_to_edge_repeats_as_the_picture_does():
    model, x = toy(), torch.randn(1, 4, 8, 24, generator=torch.Generator().manual_seed(1))
    request = TextToImage(prompt="a red apple", width=192, height=64, tiling="both", seed=1)
    with torch.no_grad(), prepared(model, request, [InTiles(96, 1 / 3)]) as drawing:
        made, moved = (drawing.unguided(one, torch.tensor(2.0), drawing.cond) for one in (x, x.roll(4, 2)))
    torch.testing.assert_close(made.roll(4, 2), moved, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guide", [PerturbedAttention(), SmoothedEnergy(), Autoguidance(drop="mid_attn"), FreeU()])
def test_guides_inside_of_the_network_work_in_tiles(guide):
    request, wide = replace(REQUEST, cfg_scale=4), picture((100, 64))
    guided, plain = (drawn(replace(request, guides=own), toy("sd1"), wide)[0] for own in ((guide,), ()))
    assert guided.record.pixel_sha256 != plain.record.pixel_sha256


@pytest.mark.parametrize("guide", [SelfAttentionGuidance(), Autoguidance(model="weak.safetensors")])
def test_a_guide_that_looks_at_the_whole_picture_is_refused(guide):
    with pytest.raises(RequestError, match=rf"guide {guide.kind} .* drawn in tiles"):
        drawn(replace(REQUEST, guides=(guide,)), toy("sd1"))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_refiner_sees_nothing_but_tiles_either(family):
    """Where it draws every step, all is as if it were the model."""
    first, regions = toy(family), Regions(regions=(Region(mask="left", prompt="a dog"),))
    second = toy(family, seed=1, vae=first.vae)
    request = replace(REQUEST, steps=2, strength=0.8)

    def last(model, *controls):
        *_, step, _ = tiled_upscale(model, request, picture(), controls)
        return step.x

    alone = last(second, regions)
    assert torch.equal(last(first, regions, Refiner(second, 0.0)), alone)
    assert not torch.equal(last(second), alone)


def test_seams_do_not_show():
    """At low strength, jumps over the edges of tiles are as everywhere else."""
    soft = Image.new("RGB", (96, 64), "teal")
    request = TiledUpscale(
        prompt="x", steps=4, seed=7, tile=64, cfg_scale=1, strength=0.5, upscaler="Lanczos", overlap=0.5
    )
    made = np.asarray(drawn(request, image=soft)[0].image, float)
    jumps = np.abs(np.diff(made, axis=1)).mean(axis=(0, 2))
    edges = [32 * i - 1 for i in range(1, 6)]
    others = np.delete(jumps, edges)
    assert jumps[edges].max() < others.max() * 1.5
