"""The commands that begin with a picture, as a user runs them."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from daguerre.provenance import png
from daguerre.request import Inpaint, Outpaint
from tests.cli.test_commands import home, model, run, size  # noqa: F401  fixtures
from tests.generate.test_upscale import drawing

FAST = ("--model", "toy", "--steps", 2, "--seed", 5, "--device", "cpu", "--dtype", "float32", "--json")


@pytest.fixture
def given(tmp_path):
    picture, mask = tmp_path / "given.png", tmp_path / "mask.png"
    drawing(64).save(picture)
    white = Image.new("L", (64, 64))
    ImageDraw.Draw(white).rectangle((20, 20, 40, 40), fill=255)
    white.save(mask)
    return picture, mask


def made(done, tmp_path):
    return tmp_path / json.loads(done.stdout.splitlines()[0])["path"]


def test_img2img_and_its_proof(run, model, given, tmp_path):  # noqa: F811
    picture, mask = given
    path = made(run("img2img", picture, "a pear", "--strength", 0.5, *FAST, "--count", 2, "--grid"), tmp_path)
    record, said = png.read(path)
    assert (record.request.strength, size(path)) == (0.5, (64, 64))
    assert "Denoising strength: 0.5" in said
    assert "pixel-identical" in run("reproduce", path, "--model", model, "--image", picture).stdout
    assert "name that file with --image" in run("reproduce", path, "--model", model, code=2).stderr
    other = run("reproduce", path, "--model", model, "--image", mask, code=2).stderr
    assert f"it was drawn from image ({record.pictures[0].sha256[:10]}); what is given now is image (" in other


def test_inpaint_and_its_proof(run, model, given, tmp_path):  # noqa: F811
    picture, mask = given
    path = made(run("inpaint", picture, mask, "a pear", "--mask-blur", 2, "--fill", "latent noise", *FAST), tmp_path)
    with Image.open(path) as image:
        apart = (np.asarray(image) != np.asarray(drawing(64))).any(axis=2)
    assert apart[20:41, 20:41].mean() > 0.9
    assert not apart[:15].any()
    assert isinstance(png.read(path)[0].request, Inpaint)
    assert "pixel-identical" in run("reproduce", path, "--model", model, "--image", picture, "--mask", mask).stdout


def test_outpaint_and_its_proof(run, model, given, tmp_path):  # noqa: F811
    wide = ("--left", 20, "--size", "64x64", "--mask-blur", 1)
    path = made(run("outpaint", given[0], "a pear", *wide, *FAST), tmp_path)
    assert size(path) == (84, 64)
    assert isinstance(png.read(path)[0].request, Outpaint)
    assert "pixel-identical" in run("reproduce", path, "--model", model, "--image", given[0]).stdout


def test_a_second_pass_variations_and_tiles(run, model, tmp_path):  # noqa: F811
    more = ("--hires", 1.5, "--hires-steps", 3, "--tiling", "x", "--variation-seed", 3, "--variation-strength", 0.2)
    path = made(run("generate", "a pear", "--size", "64x64", *more, *FAST), tmp_path)
    record, said = png.read(path)
    assert size(path) == (96, 96)
    assert (record.request.hires.steps, record.request.tiling, record.request.variation_seed) == (3, "x", 3)
    assert "Hires upscale: 1.5" in said
    assert "pixel-identical" in run("reproduce", path, "--model", model).stdout


def test_a_refiner_and_its_proof(run, model, tmp_path):  # noqa: F811
    path = made(run("generate", "a pear", "--size", "64x64", "--refiner", "toy", "--switch-at", 0.5, *FAST), tmp_path)
    record, said = png.read(path)
    assert "Refiner switch at: 0.5" in said
    assert record.controls[0].sha256 == record.model_sha256
    assert "pixel-identical" in run("reproduce", path, "--model", model, "--refiner", model).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("img2img", "none.png", "x"), "none.png: there is no such file"),
        (("img2img", "mask.txt", "x"), "mask.txt: it is text|mask.txt: it is damaged"),
        (("inpaint", "given.png", "small.png", "x"), "the mask has 8 x 8 pixels and the picture 64 x 64"),
        (("inpaint", "given.png", "alpha", "x"), "nothing in the picture is transparent"),
        (("outpaint", "given.png", "x"), "nothing is to be added"),
        (("img2img", "given.png", "x", "--strength", "2"), "strength is 2"),
        (("generate", "x", "--hires-upscaler", "what"), "--hires-upscaler is 'what'"),
        (("generate", "x", "--seed-size", "64"), "--seed-size is '64'"),
        (("generate", "x", "--variation-seed", "3"), "without --variation-strength"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(run, given, tmp_path, arguments, words):  # noqa: F811
    Image.new("L", (8, 8), 255).save(tmp_path / "small.png")
    (tmp_path / "mask.txt").write_text("no picture")
    done = run(*arguments, "--model", "there-is-no-such-model", code=2)
    assert any(word in done.stderr for word in words.split("|")), done.stderr
    assert "there-is-no-such-model" not in done.stderr


def test_editing_needs_a_model_for_it(run, model, given):  # noqa: F811
    assert "does not edit by instruction" in run("edit", given[0], "make it snow", *FAST, code=2).stderr
