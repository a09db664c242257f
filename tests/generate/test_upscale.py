from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.upscale import Upscaler, built_in, load_enlarger, load_upscaler, upscale
from daguerre.models.enlarger import Enlarger, EnlargerConfig
from daguerre.request import RequestError

TOY = EnlargerConfig(width=8, blocks=1)


@cache
def shipped() -> Upscaler:
    return load_upscaler()


def toy(config=TOY):
    torch.manual_seed(0)
    return Enlarger(config).eval()


def drawing(size=512, mode="RGB"):
    """A drawing of vector shapes, as large as upscaling 128 pixels makes it."""
    ground = (255, 255, 255, 0) if mode == "RGBA" else "white"
    picture = Image.new(mode, (2 * size, 2 * size), ground)
    pen, s = ImageDraw.Draw(picture), size / 256
    pen.ellipse([round(n * s) for n in (60, 90, 420, 470)], fill="gold", outline="saddlebrown", width=round(12 * s))
    pen.polygon([round(n * s) for n in (250, 30, 340, 160, 180, 140)], fill="seagreen")
    pen.line([round(n * s) for n in (150, 350, 250, 400, 350, 340)], fill="black", width=round(14 * s), joint="curve")
    pen.rectangle([round(n * s) for n in (160, 220, 200, 260)], fill="navy")
    return picture.reduce(2)


def psnr(a, b):
    error = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_built_in_one_draws_edges_better_than_filters_do(scale):
    sharp = drawing(128 * scale)
    small = sharp.reduce(scale)
    ours = psnr(upscale(small, scale, shipped().network), sharp)
    others = [psnr(small.resize(sharp.size, kind), sharp) for kind in (Image.BICUBIC, Image.LANCZOS)]
    assert ours > max(others) + 1


def test_tiles_give_what_one_piece_gives():
    whole, network = drawing(150), shipped().network
    one, tiled = (np.asarray(upscale(whole, 4, network, tile), int) for tile in (256, 33))
    assert np.abs(one - tiled).max() <= 1  # sums in another order, rounded


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 2)])
def test_any_size_and_mode(size):
    for mode in ("1", "L", "P", "RGB"):
        made = upscale(Image.new(mode, size), 2, toy())
        assert (made.mode, made.size) == ("RGB", (2 * size[0], 2 * size[1]))


def test_transparency_is_enlarged_as_sharply_and_colors_do_not_bleed():
    sharp = drawing(512, "RGBA")
    made = upscale(sharp.reduce(4), 4, shipped().network)
    assert made.mode == "RGBA"
    bicubic = sharp.reduce(4).resize(sharp.size, Image.BICUBIC)
    assert psnr(made.getchannel("A"), sharp.getchannel("A")) > psnr(bicubic.getchannel("A"), sharp.getchannel("A")) + 1
    for ground in ("white", "black"):
        on, wanted = (Image.alpha_composite(Image.new("RGBA", sharp.size, ground), p) for p in (made, sharp))
        assert psnr(on.convert("RGB"), wanted.convert("RGB")) > 26


def test_a_palette_with_transparency_and_a_color_profile_are_kept():
    image = Image.new("P", (8, 8))
    image.info |= {"transparency": 0, "icc_profile": bytes(16) + b"RGB " + bytes(4)}
    made = upscale(image, 2, toy())
    assert (made.mode, made.info["icc_profile"]) == ("RGBA", image.info["icc_profile"])
    image.info["icc_profile"] = bytes(16) + b"CMYK" + bytes(4)  # of numbers that are no more
    assert "icc_profile" not in upscale(image, 2, toy()).info


@pytest.mark.parametrize("scale", [0, 3, 8, -2])
def test_a_scale_that_does_not_divide_is_refused(scale):
    with pytest.raises(RequestError, match="enlarges 4 times"):
        upscale(Image.new("RGB", (8, 8)), scale, toy())


def test_what_would_be_gigantic_is_refused_before_any_work():
    with pytest.raises(RequestError, match="would have 16000 x 8000 pixels; the limit is 64 million"):
        upscale(Image.new("L", (4000, 2000)), 4, toy())


def written(path, network, **settings):
    given = {"enlarger": {**asdict(network.config), **settings}}
    save_file(network.state_dict(), path, {"daguerre.config": str(given).replace("'", '"').replace("True", "true")})
    return path


def test_a_file_gives_the_network_back(tmp_path):
    network = toy()
    back = load_upscaler(written(tmp_path / "mine.safetensors", network))
    assert back.name == "mine"
    assert len(back.sha256) == 64
    assert back.network.config == network.config
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(back.network(x), network(x))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"width": 9}, "blocks.0.*do not fit"),
        ({"blocks": 2}, "do not fit"),
        ({"width": 10**9}, "no upscaler or preview decoder"),
        ({"scale": 0}, "no upscaler or preview decoder"),
        ({"fold": "2"}, "no upscaler or preview decoder"),
        ({"more": 1}, "no upscaler or preview decoder"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path, settings, reason):
    path = written(tmp_path / "bad.safetensors", toy(), **settings)
    with pytest.raises(CheckpointError, match=f"(?s)bad.safetensors.*{reason}"):
        load_enlarger(path)


def test_a_model_or_a_preview_decoder_is_no_upscaler(tmp_path):
    with pytest.raises(CheckpointError, match="no upscaler or preview decoder of daguerre"):
        load_upscaler(built_in("tintype"))
    with pytest.raises(CheckpointError, match="decodes latents"):
        load_upscaler(built_in("preview"))


def test_the_files_are_small_and_say_what_they_are():
    paths = [built_in(name) for name in ("upscaler", "preview")]
    assert sum(path.stat().st_size for path in paths) <= 2_400_000
    assert sum(path.stat().st_size for path in paths[0].parent.glob("*.safetensors")) <= 64_000_000
    for path in paths:
        from daguerre.files.reader import open_checkpoint

        told = open_checkpoint(path).metadata
        assert told["license"] == "Apache-2.0"
        assert told["description"]
        assert told["kind"] == path.stem
