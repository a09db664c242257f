"""The commands as a user runs them: a real process, real files, exit codes."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from daguerre.provenance import png
from tests.toy import toy, write_toy


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(home):
    folder = home / "models"
    folder.mkdir()
    return write_toy(toy(), folder / "toy.safetensors")


@pytest.fixture
def run(home, tmp_path):
    def run(*arguments, code=0):
        environment = {
            **os.environ,
            "HOME": str(home),
            "DAGUERRE_MODELS": str(home / "models"),
            "HF_HOME": str(home / "hub"),
        }
        command = [sys.executable, "-m", "daguerre.cli.main", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def size(path):
    with Image.open(path) as picture:
        return picture.size


def pixels(path):
    with Image.open(path) as picture:
        return picture.tobytes()


SMALL = ("--steps", 2, "--size", "64x64", "--seed", 5, "--device", "cpu", "--dtype", "float32")


def test_generate_show_reproduce(run, model, tmp_path):
    done = run("generate", "a red apple", "--model", "toy", *SMALL, "--count", 2, "--json")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["seed"], second["seed"]) == (5, 6)
    path = tmp_path / first["path"]
    assert path == tmp_path / "outputs" / "5-a-red-apple.png"
    assert size(path) == (64, 64)
    record, infotext = png.read(path)
    assert record.pixel_sha256 == first["pixel_sha256"]
    assert infotext.startswith("a red apple\nSteps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4, Seed: 5")
    assert infotext in run("show", path).stdout
    assert json.loads(run("show", path, "--json").stdout)["seed"] == 5
    assert "pixel-identical" in run("reproduce", path).stdout
    assert "pixel-identical" in run("reproduce", tmp_path / second["path"], "--model", model).stdout


def test_the_schedule_in_the_name_of_a_sampler_counts(run, model):
    done = run("generate", "a red apple", "--model", model, *SMALL, "--sampler", "Euler Exponential", "--json")
    assert json.loads(done.stdout)["schedule"] == "exponential"


def test_reproduce_names_another_model(run, model, home, tmp_path):
    path = json.loads(run("generate", "a red apple", "--model", model, *SMALL, "--json").stdout)["path"]
    other = write_toy(toy(seed=1), home / "other.safetensors")
    done = run("reproduce", tmp_path / path, "--model", other, code=1)
    assert "model: " in done.stderr
    assert "differ" in done.stderr


def test_reproduce_sees_that_a_picture_was_edited(run, model, tmp_path):
    path = tmp_path / json.loads(run("generate", "a red apple", "--model", "toy", *SMALL, "--json").stdout)["path"]
    record, _ = png.read(path)
    path.write_bytes(png.encode(Image.new("RGB", (64, 64), "teal"), record))
    assert "were changed since" in run("reproduce", path, code=1).stderr


def test_nothing_is_overwritten(run, model, tmp_path):
    target = tmp_path / "apple.png"
    target.write_bytes(b"mine")
    for _ in range(2):
        run("generate", "a red apple", "--model", "toy", *SMALL, "--out", target)
    assert target.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.glob("*.png")} == {"apple.png", "apple-2.png", "apple-3.png"}


def test_grid_and_preview(run, model, tmp_path):
    run(
        "generate",
        "two apples",
        "--model",
        "toy",
        *SMALL,
        "--count",
        3,
        "--grid",
        "--preview",
        "--out",
        tmp_path / "here",
    )
    assert size(tmp_path / "here" / "grid-two-apples.png") == (128, 128)
    assert size(tmp_path / "here" / "preview.png") == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "x", "--sampler", "eulr a"), "did you mean"),
        (("generate", "x", "--schedule", "karas"), "karras"),
        (("generate", "x", "--steps", 0), "daguerre: --steps is 0;"),
        (("generate", "x", "--size", "64by64"), "512x768"),
        (("generate", "x", "--size", "65x64"), "multiple of 8"),
        (("generate", "x", "--model", "toi"), "'toy'"),
        (("generate", "x", "--model", "no/such"), "models pull no/such"),
        (("generate", "x", "--device", "abacus"), "cpu"),
        (("generate", "(x:1..2)"), "1..2"),
        (("show", "missing.png"), "missing.png"),
        (("checkpoint", "inspect", "missing.safetensors"), "missing.safetensors"),
        (("train", "missing.toml"), "missing.toml"),
    ],
)
def test_bad_input_gets_one_kind_sentence(run, model, arguments, words):
    if arguments[0] == "generate" and "--model" not in arguments:
        arguments = (*arguments, "--model", "toy")
    done = run(*arguments, code=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_a_damaged_model_is_named(run, model, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:100_000])
    assert "cut.safetensors" in run("generate", "x", "--model", cut, code=2).stderr


def test_a_picture_without_a_record_says_so(run, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert "does not say how it was made" in run("show", tmp_path / "plain.png", code=2).stderr


def test_inspect_and_convert_there_and_back(run, model, tmp_path):
    facts = json.loads(run("checkpoint", "inspect", model, "--json").stdout)
    assert (facts["family"], facts["layout"], facts["missing"], facts["extra"]) == ("tintype", "ldm", [], [])
    assert "(tintype), ldm layout" in run("checkpoint", "inspect", "toy").stdout
    run("checkpoint", "convert", model, tmp_path / "folder", "--layout", "diffusers")
    run("checkpoint", "convert", tmp_path / "folder", tmp_path / "back.safetensors", "--layout", "ldm")
    assert (tmp_path / "folder" / "model_index.json").is_file()
    drawn = [
        tmp_path / json.loads(run("generate", "a red apple", "--model", m, *SMALL, "--json").stdout)["path"]
        for m in (model, tmp_path / "folder", tmp_path / "back.safetensors")
    ]
    first, *others = (pixels(path) for path in drawn)
    # Mapped weights lie at other places in memory, where matrix products may round otherwise.
    assert all(abs(a - b) <= 1 for other in others for a, b in zip(first, other, strict=True))
    done = run("checkpoint", "convert", model, tmp_path / "folder", "--layout", "ldm", code=2)
    assert "exists already" in done.stderr


def test_models_list(run, model):
    names = [json.loads(line)["name"] for line in run("models", "list", "--json").stdout.splitlines()]
    assert names == ["tintype", "toy"]
    assert "built in" in run("models", "list").stdout


def test_a_reader_that_has_seen_enough_is_no_error(home, tmp_path):
    command = [sys.executable, "-m", "daguerre.cli.main", "models", "list"]
    environment = {**os.environ, "HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_heatmap(run, model, tmp_path):
    done = run("heatmap", "a red apple", "--word", "apple", "--word", "red apple", "--model", "toy", *SMALL, "--json")
    told = json.loads(done.stdout)
    assert told["words"].keys() == {"apple", "red apple"}
    paths = [tmp_path / path for path in (told["path"], *told["words"].values())]
    assert [size(path) for path in paths] == [(64, 64)] * 3
    assert len({pixels(path) for path in paths}) == 3
    assert size(tmp_path / told["sheet"])[0] == 3 * 64
    assert png.read(paths[0])[0].request.prompt == "a red apple"
    plain = json.loads(run("generate", "a red apple", "--model", "toy", *SMALL, "--json").stdout)
    assert plain["pixel_sha256"] == png.read(paths[0])[0].pixel_sha256
    assert "did you mean 'apple'?" in run("heatmap", "an apple", "--word", "aple", "--model", "toy", code=2).stderr
    assert "one picture" in run("heatmap", "an apple", "--count", 2, code=2).stderr


def test_guides_by_their_texts(run, model, tmp_path):
    guides = ("--guide", "pag:scale=2", "--guide", "apg:momentum=-0.25,threshold=5")
    shown = json.loads(run("generate", "a red apple", "--model", "toy", *SMALL, *guides, "--json").stdout)
    plain = json.loads(run("generate", "a red apple", "--model", "toy", *SMALL, "--json").stdout)
    assert shown["pixel_sha256"] != plain["pixel_sha256"]
    record, infotext = png.read(tmp_path / shown["path"])
    assert [str(guide) for guide in record.request.guides] == ["pag:scale=2", "apg:threshold=5,momentum=-0.25"]
    assert 'Guides: "pag:scale=2; apg:threshold=5,momentum=-0.25"' in infotext
    assert "pixel-identical" in run("reproduce", tmp_path / shown["path"]).stdout
    assert "did you mean 'scale'?" in run("generate", "a", "--guide", "pag:scael=2", code=2).stderr
