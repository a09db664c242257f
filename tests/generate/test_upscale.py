from dataclasses import asdict
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from daguerre.files.built_in import built_in
from daguerre.files.checkpoint import CheckpointError
from daguerre.generate.upscale import Upscaler, load_enlarger, load_upscaler, upscale
from daguerre.models.enlarger import Enlarger, EnlargerConfig
from daguerre.models.esrgan import RRDBConfig, RRDBNet
from daguerre.request import RequestError
from tests.checkpoints.esrgan_files import compact_file, compact_reference

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


@pytest.mark.parametrize("scale", [0, 0.5, -2, 17, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(RequestError, match="scale is"):
        upscale(Image.new("RGB", (8, 8)), scale, toy())


def test_any_scale_is_what_the_network_makes_and_then_resized():
    small, network = drawing(32), toy()
    large = upscale(small, 4, network)
    assert upscale(small, 2.5, network).tobytes() == large.resize((80, 80), Image.LANCZOS).tobytes()
    twice = upscale(large, 4, network).resize((160, 160), Image.LANCZOS)
    assert upscale(small, 5, network).tobytes() == twice.tobytes()
    assert upscale(Image.new("RGB", (3, 5)), 1.5, network).size == (4, 8)


class Shading(torch.nn.Module):
    """A network that sees farther than any tile: it draws its whole input's mean, and no two tiles agree."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.config = RRDBConfig(blocks=100, doublings=0)

    def forward(self, x):
        return x * 0 + x.mean()


def test_tiles_of_far_seeing_networks_pass_gradually_into_one_another():
    ramp = np.arange(128)
    gradient = np.repeat((ramp[None, :] + ramp[:, None] // 2)[..., None], 3, axis=2).astype(np.uint8)
    made = np.asarray(upscale(Image.fromarray(gradient), 1, Shading(), 64), int)
    assert np.ptp(made) > 30
    across, down = np.abs(np.diff(made, axis=1)), np.abs(np.diff(made, axis=0))
    assert 0 < max(across.max(), down.max()) <= 6  # without a passage: more than 20 at once


@pytest.mark.parametrize("fold", [1, 2])
def test_tiles_of_an_rrdbnet_give_what_one_piece_gives(fold):
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(8, 1, 4, 2, fold)).eval().requires_grad_(requires_grad=False)
    picture = drawing(72).crop((0, 0, 71, 66))
    one, exact, feathered = (np.asarray(upscale(picture, 4 // fold, network, tile), int) for tile in (256, 100, 24))
    assert one.shape == (66 * 4 // fold, 71 * 4 // fold, 3)
    assert np.ptp(one) > 2
    assert np.abs(one - exact).max() <= 1
    assert np.abs(one - feathered).max() <= 1


def test_files_of_esrgan_enlarge_pictures_with_transparency(tmp_path):
    state = compact_file(scale=2)
    torch.save({"params": state}, tmp_path / "2x.pth")
    upscaler = load_upscaler(tmp_path / "2x.pth", "cpu")
    assert upscaler.name == "2x"
    assert str(upscaler.used(2.5)).startswith("2.5x by 2x")
    small = drawing(32)
    x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
    wanted = compact_reference(state, x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    made = np.asarray(upscale(small, 2, upscaler.network), int)
    assert np.abs(made - wanted).max() <= 1
    assert upscale(drawing(32, "RGBA"), 2, upscaler.network).mode == "RGBA"


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
    with pytest.raises(CheckpointError, match=r"none of its \d+ tensors belongs to a known upscaler"):
        load_upscaler(built_in("tintype"))
    with pytest.raises(CheckpointError, match="no upscaler or preview decoder of daguerre"):
        load_enlarger(built_in("tintype"))
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
