"""Where pictures go: what --out names, and that it is found out before the time is spent."""

from pathlib import Path

import pytest
from PIL import Image

from daguerre.cli.exit import Failure
from daguerre.cli.files import check_writable
from tests.toy import toy, write_toy

SMALL = ("--model", "toy", "--steps", 1, "--size", "64x64", "--device", "cpu", "--dtype", "float32", "--seed", 5)


@pytest.fixture
def home(tmp_path):
    write_toy(toy(), tmp_path / "toy.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "given.png")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "a cat", "--out", "x.jpg"),
        ("img2img", "given.png", "a cat", "--out", "x.webp"),
        ("heatmap", "a cat", "--out", "x.tiff"),
        ("film", "a cat", "--out", "x.jpeg"),
        ("travel", "a cat", "--seeds", "6", "--out", "x.jpeg"),
        ("grid", "a cat", "--x", "cfg: 1, 2", "--out", "x.png"),
        ("film", "a cat", "--out", "x.gif", "--format", "webp"),
    ],
)
def test_a_name_of_another_kind_of_picture_is_no_folder(said, tmp_path, command):
    name = command[command.index("--out") + 1]
    assert f"--out {name}: " in said(*command, *SMALL, code=2)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", [".png", "made/.PNG", ".gif"])
def test_an_ending_alone_is_no_name(said, tmp_path, name):
    assert f"--out {name}: nothing stands before the ending" in said("generate", "a cat", *SMALL, "--out", name, code=2)
    assert not (tmp_path / name).exists()


def test_an_animation_goes_to_the_file_that_is_named(said, tmp_path):
    out = said("film", "a cat", *SMALL, "--out", "made/life.gif").split()
    assert out == ["made/5-a-cat.png", "made/life.gif"]
    out = said("travel", "a cat", "--seeds", "6", "--frames", 1, *SMALL, "--out", "made/way.png").split()
    assert out == ["made/way.png"]
    assert len(list(Path("made/way/cells").iterdir())) == 2
    for path, kind in (("made/life.gif", "GIF"), ("made/way.png", "PNG")):
        with Image.open(path) as moving:
            assert moving.format == kind


def test_a_heat_map_is_beside_the_picture_that_is_named(said):
    out = said("heatmap", "cat", *SMALL, "--out", "made/x.png").split()
    assert out == ["made/x.png", "made/x-cat.png", "made/x-words.png"]


@pytest.mark.parametrize(
    "command",
    [("generate", "a cat"), ("film", "a cat"), ("heatmap", "a cat"), ("grid", "a cat", "--x", "cfg: 1, 2")],
    ids=lambda command: command[0],
)
def test_a_place_that_takes_no_file_is_told_of_before_the_model_is_loaded(said, tmp_path, command, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr("daguerre.families.loading.load_model", None)  # which would fail, if it were called
    assert "taken: nothing can be written there" in said(*command, *SMALL, "--out", "taken/deep", code=2)
    for name in ("x" * 300, "x" * 300 + ".png"):
        if command[0] in ("generate", "heatmap") or "." not in name:
            assert "xxx...: the name is too long" in said(*command, *SMALL, "--out", name, code=2)


def test_looking_whether_a_folder_takes_files_makes_none(tmp_path):
    check_writable(tmp_path / "new" / "deep")
    check_writable(tmp_path / "new" / ".." / ".." / "deep", tmp_path / "new" / ".." / ".." / "deep" / "x.png")
    assert not (tmp_path.parent / "deep").exists()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="file: nothing can be written there"):
        check_writable(tmp_path / "file" / "deep")
