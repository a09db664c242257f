"""`daguerre upscale`, `generate --upscale` and the training of such networks, as a user runs them."""

import json

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from daguerre.provenance import infotext, png
from daguerre.provenance.record import pixel_sha256
from tests.checkpoints.esrgan_files import rrdb_file
from tests.provenance.records import record
from tests.toy import toy, write_toy
from tests.train import toys

SMALL = ("--steps", 2, "--size", "64x64", "--seed", 5, "--device", "cpu", "--dtype", "float32")
RECIPE = """
recipe = "upscaler"
pictures = "balls.parquet"
base = "toy.safetensors"
run = "run"
size = 32
device = "cpu"
license = "MIT"
[network]
width = 8
blocks = 1
scale = 2
[damage]
crop = 8
[loop]
steps = 3
batch = 2
"""


def test_a_picture_of_ours_keeps_its_record(said, tmp_path):
    image = Image.new("RGB", (12, 9), "teal")
    (tmp_path / "a.png").write_bytes(png.encode(image, record(pixel_sha256=pixel_sha256(image))))
    assert said("upscale", "a.png", "--scale", 2, "--out", "large") == "large/a-2x.png\n"
    then, text = png.read(tmp_path / "large" / "a-2x.png")
    with Image.open(tmp_path / "large" / "a-2x.png") as made:
        assert made.size == (24, 18)
        assert then.pixel_sha256 == pixel_sha256(made)
    assert [str(used)[:14] for used in then.upscalers] == ["2x by upscaler"]
    assert (then.request, then.seed) == (record().request, record().seed)
    assert infotext.to_request(infotext.read(text)).prompt == "a red apple"
    assert text.endswith("Postprocess upscale by: 2, Postprocess upscaler: upscaler")
    said("upscale", "large/a-2x.png", "--scale", 2)
    assert len(png.read(tmp_path / "outputs" / "a-2x-2x.png")[0].upscalers) == 2
    assert "upscalers      2x by upscaler" in said("show", "large/a-2x.png")


def test_pixels_that_a_record_does_not_tell_of_lose_it(said, tmp_path):
    (tmp_path / "edited.png").write_bytes(png.encode(Image.new("RGB", (8, 8), "red"), record()))
    said("upscale", "edited.png")
    then, text = png.read(tmp_path / "outputs" / "edited-4x.png")
    assert then is None
    assert text.startswith("a red apple")


def test_pictures_of_others(said, tmp_path):
    texts = PngInfo()
    texts.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 1")
    Image.new("RGBA", (5, 7), (9, 9, 9, 0)).save(tmp_path / "other.png", pnginfo=texts)
    Image.new("L", (6, 6)).save(tmp_path / "gray.jpg")
    assert said("upscale", "other.png", "gray.jpg").split() == ["outputs/other-4x.png", "outputs/gray-4x.png"]
    with Image.open(tmp_path / "outputs" / "other-4x.png") as made:
        assert (made.mode, made.size) == ("RGBA", (20, 28))
        assert made.text["parameters"] == (
            "a cat\nSteps: 20, Sampler: Euler a, Seed: 1, Postprocess upscale by: 4, Postprocess upscaler: upscaler"
        )


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("text.png", b"<svg/>", "text.png: it is text"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0", "cut.png: it is damaged"),
        ("empty.jpg", b"", "empty.jpg: it is empty"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(said, tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data)
    assert told in said("upscale", name, code=2)
    assert not (tmp_path / "outputs").exists()


def test_what_is_not_there_or_too_large(said, tmp_path):
    assert "nothing.png: there is no such file" in said("upscale", "nothing.png", code=2)
    assert "name one picture" in said("upscale", code=2)
    Image.new("1", (5000, 5000)).save(tmp_path / "huge.png")
    assert "huge.png: the picture would have 20000 x 20000 pixels" in said("upscale", "huge.png", code=2)


def test_drawn_enlarged_and_drawn_again(said, tmp_path):
    write_toy(toy(), tmp_path / "toy.safetensors")
    drawn = json.loads(said("generate", "a ball", "--model", "toy.safetensors", *SMALL, "--upscale", 2, "--json"))
    with Image.open(drawn["path"]) as made:
        assert made.size == (128, 128)
        assert pixel_sha256(made) == drawn["pixel_sha256"]
    assert "pixel-identical" in said("reproduce", drawn["path"], "--model", "toy.safetensors")


def test_a_file_of_esrgan_and_any_scale(said, tmp_path):
    torch.save({"params_ema": rrdb_file("real", blocks=1)}, tmp_path / "4x.pth")
    drawn = json.loads(
        said("generate", "a ball", "--model", write_toy(toy(), tmp_path / "t.safetensors"), *SMALL, "--json")
    )
    out = said("upscale", drawn["path"], "--model", "4x.pth", "--scale", 2.5, "--device", "cpu").strip()
    with Image.open(tmp_path / out) as large:
        assert large.size == (160, 160)
    record, text = png.read(tmp_path / out)
    assert [str(used)[:10] for used in record.upscalers] == ["2.5x by 4x"]
    assert "Postprocess upscale by: 2.5, Postprocess upscaler: 4x" in text
    again = ("--model", "t.safetensors", "--upscaler", "4x.pth")
    assert "pixel-identical" in said("reproduce", out, *again)
    assert "scale is 0.5" in said("upscale", drawn["path"], "--scale", 0.5, code=2)


def test_from_pictures_to_an_upscaler(said, tmp_path):
    write_toy(toy(), tmp_path / "toy.safetensors")
    toys.write_parquet(tmp_path / "balls.parquet")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert said("train", "recipe.toml", "--quiet") == "run/upscaler.safetensors\n"
    ball = toys.ball("red")
    ball.save(tmp_path / "ball.png")
    said("upscale", "ball.png", "--scale", 2, "--upscaler", "run/upscaler.safetensors")
    with Image.open(tmp_path / "outputs" / "ball-2x.png") as made:
        assert (made.mode, made.size) == ("RGBA", (64, 64))
    assert said("train", "recipe.toml", "loop.steps=4", "--quiet", "--allow-changes") == "run/upscaler.safetensors\n"
    assert "missing.parquet: no such file" in said("train", "recipe.toml", "--pictures", "missing.parquet", code=2)


def test_a_preview_decoder_of_any_model(said, tmp_path):
    write_toy(toy("sd1"), tmp_path / "toy.safetensors")
    toys.write_parquet(tmp_path / "balls.parquet")
    changed = RECIPE.replace('"upscaler"', '"preview"').replace("scale = 2", "channels = 4\nfold = 1\nresidual = false")
    (tmp_path / "recipe.toml").write_text(changed)
    assert said("train", "recipe.toml", "--quiet") == "run/preview.safetensors\n"
