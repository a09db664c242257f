"""`daguerre tiled-upscale` as a user runs it."""

import pytest
from PIL import Image

from daguerre.provenance import png
from daguerre.request import TiledUpscale
from tests.toy import toy, write_toy

SMALL = ("--model", "toy.safetensors", "--steps", 2, "--seed", 5, "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def home(tmp_path):
    write_toy(toy(), tmp_path / "toy.safetensors")
    return tmp_path


def test_a_drawn_picture_is_enlarged_by_its_own_prompt_and_drawn_again(said, tmp_path):
    small = said("generate", "a red apple", *SMALL, "--size", "64x64").strip()
    large = said("tiled-upscale", small, *SMALL, "--tile", 64, "--out", "large").strip()
    with Image.open(large) as picture:
        assert picture.size == (128, 128)
    record, _ = png.read(tmp_path / large)
    assert isinstance(record.request, TiledUpscale)
    assert record.request.prompt == "a red apple"
    assert "pixel-identical" in said("reproduce", large, "--image", small)
    Image.new("RGB", (64, 64)).save("other.png")
    assert "it was drawn from" in said("reproduce", large, "--image", "other.png", code=2)


def test_what_cannot_be_done_is_refused_before_a_model_is_loaded(said):
    Image.new("RGB", (64, 64)).save("a.png")
    told = said("tiled-upscale", "a.png", *SMALL, "--upscaler", "4x.pth", code=2)
    assert "upscaler is '4x.pth'" in told
    assert "multiple of 8" in said("tiled-upscale", "a.png", *SMALL, "--tile", 70, code=2)
