"""`daguerre tiled-upscale` as a user runs it."""

from functools import partial

import pytest
from PIL import Image

from daguerre.cli import main
from daguerre.cli.main import app
from daguerre.provenance import png
from daguerre.request import TiledUpscale
from tests.toy import toy, write_toy

SMALL = ("--model", "toy.safetensors", "--steps", 2, "--seed", 5, "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with a model; returns what it printed, or its error for another exit code than 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGUERRE_MODELS", str(tmp_path))
    write_toy(toy(), tmp_path / "toy.safetensors")

    def run(*arguments: object, code: int = 0) -> str:
        ended = 0
        monkeypatch.setattr(main, "app", partial(app, [str(a) for a in arguments]))
        try:
            main.main()
        except SystemExit as exit:
            ended = int(exit.code or 0)
        out, err = capsys.readouterr()
        assert ended == code, err
        return err if code else out

    return run


def test_a_drawn_picture_is_enlarged_by_its_own_prompt_and_drawn_again(run, tmp_path):
    small = run("generate", "a red apple", *SMALL, "--size", "64x64").strip()
    large = run("tiled-upscale", small, *SMALL, "--tile", 64, "--out", "large").strip()
    with Image.open(large) as picture:
        assert picture.size == (128, 128)
    record, _ = png.read(tmp_path / large)
    assert isinstance(record.request, TiledUpscale)
    assert record.request.prompt == "a red apple"
    assert "pixel-identical" in run("reproduce", large, "--image", small)
    Image.new("RGB", (64, 64)).save("other.png")
    assert "it was drawn from" in run("reproduce", large, "--image", "other.png", code=2)


def test_what_cannot_be_done_is_refused_before_a_model_is_loaded(run):
    Image.new("RGB", (64, 64)).save("a.png")
    told = run("tiled-upscale", "a.png", *SMALL, "--upscaler", "4x.pth", code=2)
    assert "upscaler is '4x.pth'" in told
    assert "multiple of 8" in run("tiled-upscale", "a.png", *SMALL, "--tile", 70, code=2)
