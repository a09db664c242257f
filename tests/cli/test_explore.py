"""`daguerre grid`, `matrix`, `prompts`, `travel` and `film` as a user runs them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from daguerre.provenance import infotext, png
from tests.toy import toy, write_toy

SMALL = ("--model", "toy.safetensors", "--steps", 1, "--size", "64x64", "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def home(tmp_path):
    write_toy(toy(), tmp_path / "toy.safetensors")
    return tmp_path


def test_a_grid_its_cells_and_one_cell_again(said, tmp_path):
    out = said("grid", "an apple", "--x", "cfg: 1, 3", "--y", "seed: 5, 6", *SMALL).split()
    assert out == ["outputs/grid-an-apple/grid.png"]
    cells = sorted((tmp_path / "outputs/grid-an-apple/cells").iterdir())
    assert len(cells) == 4
    with Image.open(out[0]) as grid:
        assert grid.width > 128
        assert grid.height > 128
    _, text = png.read(tmp_path / out[0])
    found = infotext.read(text)
    assert (found["Script"], found["X Type"], found["X Values"]) == ("X/Y/Z plot", "CFG scale", "1, 3")
    assert "pixel-identical" in said("reproduce", cells[0])


def test_a_grid_over_samplers_gives_each_its_own_schedule(run, tmp_path):
    run("grid", "an apple", "--x", "sampler: DPM++ 2M, DDIM, Euler Exponential", *SMALL)
    cells = (tmp_path / "outputs/grid-an-apple/cells").iterdir()
    assert {png.read(path)[0].schedule for path in cells} == {"karras", "ddim_uniform", "exponential"}


def test_going_on_keeps_the_random_seed_and_draws_the_rest(said, tmp_path):
    said("grid", "an apple", "--x", "cfg: 1, 3", *SMALL)
    folder = tmp_path / "outputs/grid-an-apple"
    before = {path: path.read_bytes() for path in (folder / "cells").iterdir()}
    out = said("grid", "an apple", "--x", "cfg: 1, 3, 5", *SMALL, "--resume", "--json").splitlines()
    assert json.loads(out[-1]) == {"grid": "outputs/grid-an-apple/grid-2.png"}
    assert len(list((folder / "cells").iterdir())) == 3
    assert all(path.read_bytes() == data for path, data in before.items())
    said("grid", "an apple", "--x", "cfg: 1, 3", *SMALL)
    assert (tmp_path / "outputs/grid-an-apple-2/grid.png").exists()
    assert "add --resume" in said("grid", "an apple", "--x", "cfg: 1", *SMALL, "--out", folder, code=2)
    assert "nothing to go on with" in said("grid", "a pear", "--x", "cfg: 1", *SMALL, "--resume", code=2)


def test_an_interruption_leaves_a_grid_of_what_is_done(said, tmp_path, monkeypatch):
    from daguerre.generate import text_to_image

    draw = text_to_image.text_to_image

    def interrupted(model, request):
        if request.cfg_scale == 3:
            raise KeyboardInterrupt
        yield from draw(model, request)

    monkeypatch.setattr(text_to_image, "text_to_image", interrupted)
    told = said("grid", "an apple", "--x", "cfg: 1, 3", *SMALL, code=130)
    assert "1 of 2 cells are in outputs/grid-an-apple, add --resume to go on" in told
    assert (tmp_path / "outputs/grid-an-apple/grid-so-far.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--x", "steps: 1, 0"), "axis 'Steps', value 'Steps: 0'"),
        (("--x", "model: toy.safetensors, toi"), "axis 'Model', value 'toi'"),
        (("--x", "vae: none, toi.safetensors"), "axis 'VAE', value 'toi'"),
        (("--x", "lora: none, ink.safetensors"), "axis 'LoRA', value 'ink'"),
        (("--x", "steps: 1", "--margin", "900"), "margin is 900"),
        (("--x", "prompt: a dog, a (b:1..2)"), "weight '1..2' is not a number"),
        (("--x", "negative: none, [x:(y:2..):0.5]"), "weight '2..' is not a number"),
        (("--x", "clip_skip: 1, 9"), "clip_skip is 9; the text encoder of toy.safetensors allows at most 2"),
        (("--x", "steps: 1, 2", "--sheets"), "--sheets does nothing without --z"),
        ((), "needs an axis"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_is_drawn(said, tmp_path, arguments, words):
    assert words in said("grid", "an apple", *SMALL, *arguments, code=2)
    assert not (tmp_path / "outputs").exists()


def test_a_matrix_and_sheets(said, tmp_path):
    assert said("matrix", "a cat|hat|blue", *SMALL, "--seed", 1).split() == ["outputs/matrix-a-cat-hat-blue/grid.png"]
    cells = (tmp_path / "outputs/matrix-a-cat-hat-blue/cells").iterdir()
    assert {png.read(path)[0].request.prompt for path in cells} == {
        "a cat",
        "a cat, hat",
        "a cat, blue",
        "a cat, hat, blue",
    }
    cell, *_ = said("matrix", "a cat|hat", *SMALL, "--seed", 1, "--json").splitlines()
    assert json.loads(cell)["cell"] == "a cat"  # which has none of the parts
    out = said("grid", "an apple", "--z", "seed: 1, 2", *SMALL, "--sheets", "--no-labels").split()
    assert [path.rpartition("/")[2] for path in out] == ["grid.png", "grid-1-seed-1.png", "grid-2-seed-2.png"]
    with Image.open(out[1]) as alone:
        assert alone.size == (64, 64)


def test_prompts_from_a_file(said, tmp_path):
    write_toy(toy(seed=1), tmp_path / "other.safetensors")
    (tmp_path / "wishes.txt").write_text('an apple\n--prompt "a pear" --seed 9 --n_iter 2 --sd_model other\n')
    out = said("prompts", "wishes.txt", *SMALL, "--seed", 5).split()
    records = [png.read(tmp_path / path)[0] for path in out]
    assert [(r.request.prompt, r.seed, r.model) for r in records] == [
        ("an apple", 5, "toy"), ("a pear", 9, "other"), ("a pear", 10, "other"),
    ]  # fmt: skip
    assert "pixel-identical" in said("reproduce", out[1])
    again = said("prompts", "wishes.txt", *SMALL, "--seed", 5, "--resume", "--json").splitlines()
    assert [json.loads(line)["path"] for line in again] == out
    (tmp_path / "wishes.txt").write_text("an apple\n--steps none")
    assert "wishes.txt: line 2: steps is 'none'" in said("prompts", "wishes.txt", *SMALL, code=2)
    (tmp_path / "wishes.txt").write_text("an apple\na (b:1..2)\n")
    said_of_it = said("prompts", "wishes.txt", *SMALL, "--out", "unread", code=2)
    assert "wishes.txt: line 2: the prompt's weight '1..2' is not a number" in said_of_it
    assert not (tmp_path / "unread").exists()
    (tmp_path / "wishes.txt").write_text("an apple\n--prompt x --sd_model toi")
    assert "line 2: no model 'toi'" in said("prompts", "wishes.txt", *SMALL, code=2)
    (tmp_path / "wishes.txt").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in said("prompts", "wishes.txt", *SMALL, code=2)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_travel(said, tmp_path, kind):
    way = ("--seeds", "6", "--to", "a pear", "--frames", 2, "--format", kind)
    out = said("travel", "an apple", *way, *SMALL, "--seed", 5).split()
    assert out == [f"outputs/travel-an-apple/travel.{kind}"]
    with Image.open(out[0]) as moving:
        assert moving.n_frames == 3
    cells = sorted((tmp_path / "outputs/travel-an-apple/cells").iterdir())
    middle = next(path for path in cells if png.read(path)[0].request.variation_strength == 0.5)
    assert "AND a pear :0.5" in png.read(middle)[0].request.prompt
    assert "pixel-identical" in said("reproduce", middle)
    told = said("travel", "an apple", "--to", "a (b:1..2)", "--frames", 1, *SMALL, "--out", "unread", code=2)
    assert "weight '1..2' is not a number" in told
    assert not (tmp_path / "unread").exists()
    assert "fps is 0" in said("travel", "an apple", *way, *SMALL, "--fps", 0, code=2)


def test_a_film(said, tmp_path):
    out = said("film", "an apple", *SMALL[:2], "--steps", 3, *SMALL[4:], "--seed", 5).split()
    assert out == ["outputs/5-an-apple.png", "outputs/film-5-an-apple.webp"]
    with Image.open(out[1]) as moving:
        assert moving.n_frames == 3  # the last estimate is the picture, which stays longer
        assert moving.size == (64, 64)
    assert "pixel-identical" in said("reproduce", out[0])


def test_styles_and_choices_are_made_once_for_each_cell(said, tmp_path):
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "fruit.txt").write_text("apple\npear\nplum\nfig\n")
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nflat,"{prompt}, flat",blur\n')
    way = ("grid", "a red __fruit__", "--x", "S/R: red, green", "--y", "seed: 1-4", "--style", "flat")
    folder = Path(said(*way, *SMALL, "--seed", 1).strip()).parent / "cells"
    cells = list(folder.iterdir())
    prompts = {png.read(path)[0].request.prompt for path in cells}
    assert len(prompts) > 2
    assert all(prompt.endswith(", flat") and "__" not in prompt for prompt in prompts)
    assert {png.read(path)[0].request.negative_prompt for path in cells} == {"blur"}
    said(*way, *SMALL, "--seed", 1, "--resume")
    assert sorted(folder.iterdir()) == sorted(cells)
    assert "'ink'" in said("grid", "a <lora:ink:1>", "--x", "cfg: 1, 2", *SMALL, code=2)
    assert "pixel-identical" in said("reproduce", cells[0])


def test_settings_of_the_second_pass_can_be_axes(said, tmp_path):
    said("grid", "an apple", "--x", "hires.scale: 1, 2", "--hires", 2, "--hires-steps", 2, *SMALL)
    sizes = set()
    for path in (tmp_path / "outputs/grid-an-apple/cells").iterdir():
        with Image.open(path) as cell:
            sizes.add(cell.size)
    assert sizes == {(64, 64), (128, 128)}
    way = ("grid", "an apple", "--x", "hires.sampler: Euler, Oiler", "--hires", 2)
    assert "unknown sampler 'Oiler'" in said(*way, *SMALL, "--out", "unread", code=2)
    assert not (tmp_path / "unread").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("grid", "an apple", "--x", "cfg: 1, 3"),
        ("matrix", "an apple|red"),
        ("prompts", "wishes.txt"),
        ("travel", "an apple", "--seeds", "6", "--frames", 1),
        ("film", "an apple"),
        ("heatmap", "an apple"),
    ],
    ids=lambda command: command[0],
)
def test_what_steers_one_picture_steers_many(said, tmp_path, command):
    (tmp_path / "wishes.txt").write_text("an apple\na pear\n")
    write_toy(toy(seed=1), tmp_path / "second.safetensors")
    more = ("--hires", 1.5, "--region", "left:a car", "--refiner", "second", "--switch-at", 0.5)
    said(*command, *SMALL[:2], "--steps", 2, *SMALL[4:], "--seed", 5, *more, "--out", "made")
    records = [record for path in Path("made").rglob("*.png") if (record := png.read(path)[0])]
    assert records
    for record in records:
        assert record.request.hires.scale == 1.5
        assert [(used.kind, used.name) for used in record.controls] == [("region", "a car"), ("refiner", "second")]


def test_cells_that_something_else_steered_are_drawn_anew(said, tmp_path):
    way = ("grid", "an apple", "--x", "cfg: 1, 3", *SMALL, "--seed", 5, "--out", "made", "--resume")
    given = tmp_path / "given.png"
    for steered in ((), ("--region", "left:a car"), ("--region", f"{given}:a car")) * 2:
        Image.new("L", (64, 64), 255).save(given)
        said(*way, *steered)
    assert len(list(Path("made/cells").iterdir())) == 6
    Image.linear_gradient("L").save(given)
    said(*way, "--region", f"{given}:a car")
    assert len(list(Path("made/cells").iterdir())) == 8
