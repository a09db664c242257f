"""Results: files that load, say what they are, and replace those of an earlier end."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from daguerre.diffusion.schedule import scaled_linear
from daguerre.families.loading import load_model
from daguerre.generate.drawing import Picture
from daguerre.generate.text_to_image import text_to_image
from daguerre.request import RequestError
from daguerre.train.config import Output
from daguerre.train.outputs import Result, describe, model_result, wanted_layouts, write_results
from tests.toy import toy


def load(path):
    return load_model(path, device="cpu", dtype="float32")


@pytest.mark.parametrize("layout", ["ldm", "diffusers-folder"])
@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd1-inpaint", "sd1-edit"])
def test_a_model_is_what_it_was(tmp_path, layout, family):
    model = toy(family, prediction="v", levels=scaled_linear().zero_terminal())
    output = Output(precision="float32", layouts=(layout,))
    (path,) = write_results(model_result(model, output), output, tmp_path, "made", {"steps": 3})
    found = load(path)
    assert (found.family.name, found.prediction) == (family, "v")
    torch.testing.assert_close(found.levels.sigmas, model.levels.sigmas)
    for name, part in model.parts.items():
        state = found.parts[name].state_dict()
        assert all(torch.equal(state[key], value) for key, value in part.state_dict().items())


@pytest.mark.parametrize("layout", ["ldm", "diffusers-folder"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_what_it_predicts_is_kept(tmp_path, layout, prediction):
    output = Output(layouts=(layout,))
    (path,) = write_results(model_result(toy("sd1", prediction=prediction), output), output, tmp_path, "made", {})
    found = load(path)
    assert found.prediction == prediction
    request = replace(found.defaults, prompt="a ball", width=64, height=64, steps=2, seed=0)
    assert sum(isinstance(made, Picture) for made in text_to_image(found, request)) == 1


def test_half_precision_is_what_the_output_says(tmp_path):
    model = toy("sd1")
    for precision, dtype in {"float16": "F16", "bfloat16": "BF16"}.items():
        output = Output(precision=precision, name=precision)
        (path,) = write_results(model_result(model, output), output, tmp_path, "made", {})
        assert path.name == f"{precision}.safetensors"
        with safe_open(path, "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {dtype}  # noqa: SIM118


def test_a_file_says_what_it_was_made_of(tmp_path):
    output = Output(author="me", license="CC0", description="balls")
    told = {"recipe": "full", "steps": 3, "config": {"loop": {"steps": 3}}}
    (path,) = write_results(model_result(toy("sd1"), output), output, tmp_path, "made", told)
    with safe_open(path, "pt") as file:
        noted = json.loads(file.metadata()["daguerre.training"])
    assert noted == {"title": "made", "author": "me", "license": "CC0", "description": "balls", **told}


def test_layouts_are_written_side_by_side_and_again(tmp_path):
    written = []

    def save(path, layout, metadata):
        written.append((path.name, layout))
        path.mkdir(parents=True) if layout == "peft" else path.write_text("x")

    result = Result(("kohya", "peft", "native"), save)
    output = Output(layouts=("kohya", "peft"))
    for _ in range(2):
        write_results(result, output, tmp_path, "ball", {})
        (tmp_path / "ball-peft" / "inner").mkdir()
        (tmp_path / "ball-peft" / "inner" / "old").write_text("old")
    assert written == [("ball.safetensors", "kohya"), ("ball-peft", "peft")] * 2
    assert wanted_layouts(result, Output()) == ("kohya",)
    with pytest.raises(RequestError, match=r"output\.layouts: 'ldm' is none of kohya, peft, native"):
        wanted_layouts(result, Output(layouts=("kohya", "ldm")))


def test_a_shorter_text_encoder_is_described():
    model = toy("sd1")
    skipped = replace(model.family, encodings=(replace(model.family.encodings[0], skip=2),))
    assert describe(replace(model, family=skipped)).unused_layers == 1
    assert describe(model).unused_layers == 0
    assert describe(model).zero_snr is False
