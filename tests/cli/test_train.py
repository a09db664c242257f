"""`daguerre train`, in this process: what a recipe file may say, and runs at toy size."""

import tomllib
from pathlib import Path

import pytest

import daguerre.train.loop
from daguerre.cli.train import BESIDE, TrainingFlags, _plan
from daguerre.request import RequestError
from daguerre.train import recipe_file
from daguerre.train.config import Run
from daguerre.train.enlarging import Enlarging
from daguerre.train.tintype import TINTYPE, Plan
from daguerre.train.vision_tower import Seeing
from tests.toy import toy, write_toy
from tests.train import toys
from tests.train.line import state

ROOT = Path(__file__).resolve().parents[2]
TOY = """
recipe = "scratch"
pictures = "balls.parquet"
run = "run"

[autoencoder.loop]
steps = 4
batch = 4
log_every = 1

[adversary]
crop = 32
adversary = 0

[clip.loop]
steps = 3
batch = 4

[unet.loop]
steps = 2
batch = 4
sample_every = 1000

[lessons]
styles = ["flat modern", "3d render"]
scenes = 0

[architecture]
size = 64

[architecture.vae]
channels = [8, 8, 16, 16]
latent_channels = 4
groups = 4

[architecture.text]
width = 16
layers = 1
heads = 2

[architecture.vision]
size = 16
width = 16
layers = 1
heads = 2
projection = 16

[architecture.unet]
channels = [32, 32]
depth = [0, 1]
context = 16
head_width = 16
vector = 16
channels_in = 4
channels_out = 4
groups = 8
"""


@pytest.fixture
def train(ended, tmp_path, monkeypatch):
    """Trains by a recipe in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def train(recipe: str, *arguments: object):
        (tmp_path / "recipe.toml").write_text(recipe)
        return ended("train", "recipe.toml", *arguments)

    return train


def test_from_pictures_to_a_model_file(train, tmp_path):
    toys.write_parquet(tmp_path / "balls.parquet")
    code, out, err = train(TOY, "--export", "model.safetensors")
    assert (code, err.count("step")) == (0, 0)  # a line for every twentieth step
    assert out == "model.safetensors\n"
    assert (tmp_path / "model.safetensors").stat().st_size > 1e6
    made = ["autoencoder", "clip", "latents.safetensors", "unet"]
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == made
    assert state(tmp_path / "run" / "unet")["weights"]["conv_out.weight"].shape == (4, 32, 3, 3)


def test_stages_run_as_they_are_named_and_in_their_order(train, tmp_path):
    toys.write_parquet(tmp_path / "elsewhere.parquet")
    elsewhere = ("--pictures", "elsewhere.parquet", "--run", "other")
    code, _, err = train(TOY, "--stages", "clip", *elsewhere)
    assert code == 0, err
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["clip"]
    code, _, err = train(
        TOY, "--stages", "unet", "--stages", "autoencoder", "--pictures", "elsewhere.parquet", "--run", "other"
    )
    assert code == 0, err
    assert (tmp_path / "other" / "unet" / "step-00000002").is_dir()


def test_progress_is_told(train, tmp_path):
    toys.write_parquet(tmp_path / "balls.parquet")
    code, _, err = train(TOY.replace("steps = 3", "steps = 45"), "--stages", "clip")
    assert code == 0
    assert [line.split()[1:4] for line in err.splitlines()] == [["clip", "step", "20"], ["clip", "step", "40"]]
    assert "of 45: loss" in err
    assert "loss" in err
    assert "accuracy" in err


def test_minutes_stop_a_run_that_is_saved_and_goes_on(train, tmp_path, monkeypatch):
    toys.write_parquet(tmp_path / "balls.parquet")
    clock = iter(range(100_000))
    with monkeypatch.context() as patch:
        patch.setattr(daguerre.train.loop.time, "time", lambda: next(clock))  # each look takes a second
        code, _, err = train(TOY.replace("steps = 3", "steps = 5000"), "--stages", "clip", "--minutes", 0.2)
    assert code == 0, err
    saved = [int(path.name[5:]) for path in (tmp_path / "run" / "clip").glob("step-*")]
    assert len(saved) == 1
    assert 3 < saved[0] <= 12
    code, _, err = train(TOY.replace("steps = 3", f"steps = {saved[0] + 1}"), "--stages", "clip")
    assert code == 0, err
    assert (tmp_path / "run" / "clip" / f"step-{saved[0] + 1:08d}").is_dir()


@pytest.mark.parametrize(
    ("recipe", "arguments", "words"),
    [
        ("stepz = 3\n" + TOY, (), ["recipe.toml: unknown setting 'stepz'"]),
        ('pictuers = "x"\n' + TOY, (), ["unknown setting 'pictuers'; did you mean 'pictures'?"]),
        (
            TOY.replace("batch = 4\nlog_every", "bach = 4\nlog_every"),
            (),
            ["autoencoder: loop: unknown setting 'bach'; did you mean 'batch'?"],
        ),
        (
            TOY.replace("adversary =", "adversery ="),
            (),
            ["adversary: unknown setting 'adversery'; did you mean 'adversary'?"],
        ),
        (
            TOY.replace("head_width", "headwidth"),
            (),
            ["architecture: unet: unknown setting 'headwidth'; did you mean 'head_width'?"],
        ),
        (TOY.replace("steps = 4", 'steps = "4"'), (), ["autoencoder: loop: steps is '4'; it should be a whole number"]),
        (TOY.replace("steps = 4", "steps = 4.5"), (), ["steps is 4.5; it should be a whole number"]),
        (TOY.replace("steps = 4", "steps = true"), (), ["steps is True; it should be a whole number"]),
        (TOY.replace("adversary = 0", 'adversary = "0"'), (), ["adversary is '0'; it should be a number"]),
        (TOY.replace("[32, 32]", "[32, 0.5]"), (), ["unet: channels, item 2 is 0.5; it should be a whole number"]),
        ("seed = [1]\n" + TOY, (), ["seed is [1]; it should be a whole number"]),
        (TOY.replace('"run"', "3"), (), ["run is 3; it should be a path"]),
        ("clip = 3\n" + TOY.replace("[clip.loop]\nsteps = 3\nbatch = 4", ""), (), ["clip is 3; it should be a table"]),
        ("= nonsense", (), ["recipe.toml is not a TOML file"]),
        (TOY.replace('run = "run"', ""), (), ["'run' is missing; set it there or by --run"]),
        (TOY.replace('pictures = "balls.parquet"', ""), (), ["'pictures' is missing; set it there or by --pictures"]),
        (TOY, (), ["balls.parquet: no such file; `daguerre data build"]),
        (TOY, ("--pictures", "other.parquet"), ["other.parquet: no such file"]),
        (TOY, ("--stages", "clipp"), ["unknown stage 'clipp'; did you mean 'clip'?"]),
        (TOY, ("--stages", "x"), ["unknown stage 'x'. There are: autoencoder, clip, unet"]),
    ],
)
def test_bad_input_gets_one_kind_sentence(train, tmp_path, recipe, arguments, words):
    code, out, err = train(recipe, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not [word for word in words if word not in err], err
    assert not (tmp_path / "run").exists()


def test_damaged_pictures_and_early_stages_are_told(train, tmp_path):
    (tmp_path / "balls.parquet").write_text("no pictures")
    code, _, err = train(TOY)
    assert code == 2
    assert "balls.parquet is not a Parquet file" in err
    toys.write_parquet(tmp_path / "balls.parquet", [toys.row("red", "3d render"), toys.row("red", "3d render", "val")])
    code, _, err = train(TOY, "--stages", "unet", "--run", "new")
    assert code != 0
    assert "train the stage 'autoencoder' first" in err


def test_a_loss_of_nan_is_told(train, tmp_path):
    toys.write_parquet(tmp_path / "balls.parquet")
    code, _, err = train(TOY.replace("adversary = 0", "kl = inf"), "--stages", "autoencoder")
    assert code == 1
    assert "step 0: loss inf" in err
    assert not list((tmp_path / "run" / "autoencoder").glob("step-*"))


def test_the_recipe_of_the_built_in_model_is_valid():
    recipe = ROOT / "recipes" / "tintype.toml"
    plan = _plan(tomllib.loads(recipe.read_text()) | {"pictures": "x.parquet"}, str(recipe), TrainingFlags())
    assert plan.architecture == TINTYPE
    assert plan.run == Path("runs/tintype")
    assert plan.unet.loop.batch == 16
    assert (
        plan.autoencoder.loop.save_every == Plan(pictures=Path(), run=Path()).autoencoder.loop.save_every
    )  # as it was


def test_whole_numbers_are_numbers():
    plan = _plan(
        {"pictures": "a", "run": "b", "unet": {"optimizer": {"learning_rate": 1}}}, "recipe.toml", TrainingFlags()
    )
    assert plan.unet.optimizer.learning_rate == 1
    with pytest.raises(RequestError):
        _plan(
            {"pictures": "a", "run": "b", "unet": {"optimizer": {"learning_rate": "1"}}}, "recipe.toml", TrainingFlags()
        )


LORA = """
recipe = "lora"
device = "cpu"

[data]
size = 64

[loop]
steps = 3
batch = 2
save_every = 2
sample_every = 1000

[lora]
rank = 2
"""


@pytest.fixture
def tuning(train, tmp_path, monkeypatch):
    """Trains a LoRA of a toy model by the recipe LORA; takes what the command line says besides."""
    monkeypatch.setattr("daguerre.train.report.write_report", lambda run: None)
    write_toy(toy("sd1"), tmp_path / "base.safetensors")
    toys.picture_folder(tmp_path / "pictures")
    given = ("--base", "base.safetensors", "--pictures", "pictures", "--run", "run")
    return lambda *arguments: train(LORA, *given, *arguments)


def test_a_lora_from_a_recipe_changes_and_a_resumed_run(tuning, ended, tmp_path):
    code, out, err = tuning("--loop.steps", 2, "output.name=ball")
    assert (code, out) == (0, "run/output/ball.safetensors\n"), err
    assert (tmp_path / "run" / "step-00000002").is_dir()
    assert ended("train", "--resume", "run", "loop.steps=4").code == 0
    assert (tmp_path / "run" / "step-00000004").is_dir()
    code, _, err = tuning("data.flip=true")
    assert code == 2
    assert "data.flip was False and is True" in err
    code, _, err = tuning("--loop.stepz", 5)
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown setting 'stepz'; did you mean 'steps'?" in err


def test_settings_are_printed_and_nothing_is_trained(tuning, tmp_path):
    code, out, _ = tuning("--settings", "optimizer.learning_rate=1e-3")
    assert code == 0
    told = tomllib.loads(out)
    assert (told["recipe"], told["loop"]["steps"], told["optimizer"]["learning_rate"]) == ("lora", 3, 1e-3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--stages", "clip"), "are for recipe 'scratch'"),
        (("--resume", "elsewhere"), "is no change of a setting"),
        (("--loop.steps",), "--loop.steps has no value"),
        (("output.layouts=['ldm']",), "output.layouts: 'ldm' is none of"),
    ],
)
def test_what_a_lora_cannot_be_told(tuning, tmp_path, arguments, told):
    code, _, err = tuning(*arguments)
    assert code == 2
    assert told in err
    assert not list(tmp_path.glob("run/step-*"))


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "recipes").glob("*.toml")))
def test_every_recipe_of_the_project_is_valid(recipe):
    values = recipe_file.read(ROOT / "recipes" / recipe)
    if values["recipe"] == "scratch":
        assert _plan(values | {"pictures": "x.parquet"}, recipe, TrainingFlags()).unet.loop.steps > 0
    elif values["recipe"] in BESIDE:
        kind = Seeing if values["recipe"] == "vision" else Enlarging
        plan = recipe_file.filled(kind, values | {"pictures": "x.parquet"}, recipe)
        assert plan.loop.steps > plan.optimizer.warmup
    else:
        run = recipe_file.filled(Run, values, recipe)
        assert run.loop.steps > run.optimizer.warmup + run.optimizer.decay
        assert run.data.sources
