"""Recipe files: to a config and back, and kind words for what cannot be."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.adapters.config import LoRAConfig
from daguerre.data.config import Captions, Data, Source
from daguerre.request import RequestError
from daguerre.train.config import Loop, Objective, Optimizer, Output, Run, Samples
from daguerre.train.recipe_file import changed, filled, override, plain, read, text_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.floats(allow_nan=False) | st.integers(-100, 100).map(float)
PATH = st.text("abc ÄÖ'\"\\#=/\n", min_size=1, max_size=8).map(Path)
VALUES = st.dictionaries(TEXT, st.integers() | TEXT | st.booleans() | NUMBER, max_size=3)
RUNS = st.builds(
    Run,
    recipe=st.sampled_from(["full", "lora", "edit"]),
    run=PATH,
    base=TEXT,
    seed=st.integers(0, 2**31),
    device=st.none() | TEXT,
    data=st.builds(
        Data,
        sources=st.lists(st.builds(Source, path=PATH, masks=st.none() | PATH, caption=TEXT), max_size=2).map(tuple),
        captions=st.builds(Captions, shuffle=st.booleans(), prefix=TEXT),
        cache=st.none() | PATH,
    ),
    objective=st.builds(Objective, gamma=NUMBER, loss=st.sampled_from(["l2", "huber"])),
    optimizer=st.builds(
        Optimizer, rates=st.dictionaries(TEXT, NUMBER, max_size=2), options=VALUES, betas=st.tuples(NUMBER, NUMBER)
    ),
    loop=st.builds(Loop, steps=st.integers(), checkpointing=st.booleans()),
    samples=st.builds(Samples, prompts=st.lists(TEXT, max_size=3).map(tuple), cfg_scale=st.none() | NUMBER),
    output=st.builds(Output, description=TEXT),
    lora=st.builds(LoRAConfig, alpha=st.none() | NUMBER, ranks=st.dictionaries(TEXT, st.integers(), max_size=2)),
)


@given(RUNS)
def test_what_is_written_is_read(run):
    for values in (changed(run), plain(run)):
        assert filled(Run, tomllib.loads(text_of(values)), "recipe.toml") == run


def test_only_changes_are_written():
    run = Run(recipe="lora", run=Path("runs/a"), loop=Loop(steps=7), optimizer=Optimizer(rates={"unet.*": 1e-5}))
    assert text_of(changed(run)) == (
        'recipe = "lora"\nrun = "runs/a"\n\n[optimizer.rates]\n"unet.*" = 1e-05\n\n[loop]\nsteps = 7\n'
    )


def test_what_stands_in_a_table_replaces_what_was_there_before():
    standard = Run(recipe="lora", run=Path("a"), loop=Loop(steps=7, batch=3))
    found = filled(Run, {"loop": {"batch": 5}}, "x", standard)
    assert found == Run(recipe="lora", run=Path("a"), loop=Loop(steps=7, batch=5))


def run_of(text):
    return filled(Run, tomllib.loads(f'recipe = "lora"\nrun = "runs/a"\n{text}'), "recipe.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sead = 3", "recipe.toml: unknown setting 'sead'; did you mean 'seed'? There are: recipe, run, base"),
        ("zzz = 3", "recipe.toml: unknown setting 'zzz'. There are: recipe"),
        ("[loop]\nstep = 3", "recipe.toml: loop: unknown setting 'step'; did you mean 'steps'?"),
        ('[loop]\nsteps = "3"', "loop: steps is '3'; it should be a whole number"),
        ("[loop]\nsteps = 3.5", "loop: steps is 3.5; it should be a whole number"),
        ("[loop]\nsteps = true", "loop: steps is True; it should be a whole number"),
        ("[loop]\ncompile = 1", "loop: compile is 1; it should be true or false"),
        ("[optimizer]\nlearning_rate = true", "learning_rate is True; it should be a number"),
        ("base = 3", "base is 3; it should be a string"),
        ("loop = 3", "loop is 3; it should be a table of settings"),
        ("[optimizer]\nrates = 3", "rates is 3; it should be a table"),
        ('[optimizer.rates]\n"unet.*" = "x"', "rates.unet.* is 'x'; it should be a number"),
        ("[optimizer]\nbetas = [1.0]", "betas is [1.0]; it should have 2 items"),
        ("[samples]\nprompts = [1]", "samples: prompts, item 1 is 1; it should be a string"),
        ('[samples]\nprompts = "a cat"', "prompts is 'a cat'; it should be a list"),
        (
            '[objective]\nloss = "hubert"',
            "objective: loss is 'hubert'; did you mean 'huber'? There are: l2, huber, smooth_l1",
        ),
        ("[data]\nsources = [{}]", "data: sources, item 1: 'path' is missing"),
        ('[data]\nsources = [{pth = "x"}]', "data: sources, item 1: unknown setting 'pth'; did you mean 'path'?"),
    ],
)
def test_errors_name_the_setting_and_what_may_stand_there(text, told):
    with pytest.raises(RequestError) as raised:
        run_of(text)
    assert told in str(raised.value)


def test_what_is_missing_is_named():
    with pytest.raises(RequestError, match=r"recipe\.toml: 'run' is missing"):
        filled(Run, {"recipe": "lora"}, "recipe.toml")


def test_whole_numbers_are_numbers():
    rate = run_of("[optimizer]\nlearning_rate = 1").optimizer.learning_rate
    assert (rate, type(rate)) == (1.0, float)


def test_changes_by_name():
    values = {"loop": {"steps": 3}}
    override(values, ["loop.steps=100", "--data.flip=true", "base=my model", 'samples.prompts=["a", "b"]', "x=1=2"])
    assert values == {
        "loop": {"steps": 100},
        "data": {"flip": True},
        "base": "my model",
        "samples": {"prompts": ["a", "b"]},
        "x": "1=2",
    }
    with pytest.raises(RequestError, match="'loop' is no change of a setting; write NAME=VALUE"):
        override(values, ["loop"])
    with pytest.raises(RequestError, match="'base' is not a table"):
        override(values, ["base.x=3"])


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "recipe.toml").write_text("= nonsense")
    with pytest.raises(RequestError, match=r"recipe\.toml is not a TOML file"):
        read(tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=r"recipe\.toml is not a TOML file"):
        read(tmp_path / "recipe.toml")
    with pytest.raises(RequestError, match="is not a TOML file"):
        read(tmp_path)
