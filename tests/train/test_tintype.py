import os
from dataclasses import replace

import pytest
import torch
from PIL import Image

from daguerre.cli.train import STAGES
from daguerre.families.loading import load_model
from daguerre.generate.drawing import Picture
from daguerre.generate.text_to_image import text_to_image
from daguerre.models.unet import UNet
from daguerre.request import RequestError
from daguerre.train import tintype
from daguerre.train.tintype import Pace, Plan
from tests.train import toys
from tests.train.line import QUICK, journal, quick, state


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    """A run that has gone through its three stages, six steps each; the U-Net has drawn once."""
    folder = tmp_path_factory.mktemp("tintype")
    plan = toys.plan(folder, unet=Pace(loop=quick(sample_every=6).loop, optimizer=QUICK.optimizer))
    toys.write_parquet(plan.pictures)
    records = list(tintype.train(plan, STAGES, minutes=60))
    assert [(r["stage"], r["step"]) for r in records] == [(stage, n) for stage in STAGES for n in range(1, 7)]
    return plan


def test_the_stages_are_those_of_the_command_line():
    assert tuple(tintype.RECIPES) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_folder(plan, stage):
    assert [record["step"] for record in journal(plan.run / stage)] == [1, 2, 3, 4, 5, 6]
    assert {path.name for path in (plan.run / stage).glob("step-*")} == {"step-00000004", "step-00000006"}


def test_a_finished_run_has_nothing_left_to_do(plan):
    assert list(tintype.train(plan, STAGES, minutes=60)) == []


def test_no_stage_begins_after_time(tmp_path):
    plan = toys.plan(tmp_path)
    assert list(tintype.train(plan, STAGES, minutes=0)) == []
    assert not plan.run.exists()


@pytest.mark.parametrize(("have", "missing"), [((), "autoencoder"), (("autoencoder",), "clip")])
def test_a_stage_too_early_names_what_it_needs(plan, tmp_path, have, missing):
    early = replace(plan, run=tmp_path)
    for stage in have:
        (tmp_path / stage).symlink_to(plan.run / stage)
    with pytest.raises(FileNotFoundError, match=f"{missing} holds no checkpoint; train the stage '{missing}' first"):
        list(tintype.train(early, ("unet",), minutes=60))


def test_the_autoencoder_is_scaled_to_unit_variance(plan):
    vae = tintype.trained_vae(plan)
    assert not any(p.requires_grad for p in vae.parameters())
    pictures = tintype._pictures(plan, "train")
    assert vae.encode(pictures.batch(torch.arange(12))).std().item() == pytest.approx(1, rel=1e-3)
    averaged = state(plan.run / "autoencoder")["averaged"]
    assert all(torch.equal(value, averaged[name]) for name, value in vae.state_dict().items())


def test_samples_of_the_unet(plan):
    with Image.open(plan.run / "unet" / "samples" / "step-00000006.png") as sheet:
        assert sheet.size == (12 * 64, 2 * 64)
        assert len(sheet.getcolors(1 << 20)) > 100


def test_the_exported_file_is_a_model_that_draws(plan, tmp_path):
    tintype.export(plan, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", device="cpu", dtype="float32")
    assert (model.family.name, model.prediction) == ("tintype", "v")
    assert model.unet.config == plan.architecture.unet
    assert model.vae.config == tintype.trained_vae(plan).config
    averaged = state(plan.run / "unet")["averaged"]
    assert all(torch.equal(value, averaged[name].half().float()) for name, value in model.unet.state_dict().items())
    request = replace(model.defaults, prompt="a red ball, flat modern", width=64, height=64, steps=3, seed=1)
    drawn = [item for item in text_to_image(model, request) if isinstance(item, Picture)]
    assert [picture.image.size for picture in drawn] == [(64, 64)]


def test_a_new_unet_is_silent():
    unet = UNet(toys.ARCHITECTURE.unet)
    given = torch.randn(2, 4, 4, 4), torch.tensor([0.0, 999.0]), torch.randn(2, 5, 16), torch.randn(2, 16)
    assert unet(*given).abs().max() > 0
    tintype._silence_outputs(unet)
    assert unet(*given).eq(0).all()
    h = torch.randn(2, 32, 4, 4)
    assert torch.equal(unet.mid_in(h, torch.randn(2, 128)), h)


def test_what_was_taught_is_told_beside_the_model(plan, tmp_path):
    tintype.export(plan, tmp_path / "model.safetensors")
    lines = (tmp_path / "model.taught.tsv").read_text().splitlines()
    assert lines[0].startswith("#")
    assert lines[1:] == ["ball\t3d render", "ball\tflat modern"]


def test_a_unet_may_begin_as_that_of_a_model_file(plan, tmp_path):
    tintype.export(plan, tmp_path / "first.safetensors")
    again = replace(plan, run=tmp_path, start=tmp_path / "first.safetensors")
    for stage in ("autoencoder", "clip"):
        (tmp_path / stage).symlink_to(plan.run / stage)
    recipe, _ = tintype.RECIPES["unet"](again)
    averaged = state(plan.run / "unet")["averaged"]
    assert all(torch.equal(v, averaged[k].half().float()) for k, v in recipe.trained.state_dict().items())


def test_the_text_encoder_may_learn_along(plan, tmp_path):
    along = replace(plan, run=tmp_path, text_rate=1e-3)
    for stage in ("autoencoder", "clip"):
        (tmp_path / stage).symlink_to(plan.run / stage)
    list(tintype.train(along, ("unet",), minutes=60))
    tintype.export(along, tmp_path / "along.safetensors")
    before, after = tintype.trained_text(along), load_model(tmp_path / "along.safetensors", dtype="float32").text[0]
    moved = {k for k, v in before.state_dict().items() if not torch.equal(v.half().float(), after.state_dict()[k])}
    assert "layers.0.q.weight" in moved
    assert not moved & {"token.weight", "position.weight"}  # what no caption says stays where it was


def test_other_lessons_are_another_run(plan):
    other = replace(plan, lessons=replace(plan.lessons, share=0.5))
    with pytest.raises(RequestError, match=r"lessons"):
        list(tintype.train(other, ("unet",), minutes=60))


def test_a_file_without_such_things_is_named(plan, tmp_path):
    rows = [{**toys.row("red", "3d render", split), "subgroup": "flag"} for split in ("train", "val")]
    other = replace(plan, pictures=toys.write_parquet(tmp_path / "flags.parquet", rows))
    with pytest.raises(ValueError, match=r"flags\.parquet: no training picture"):
        list(tintype.train(other, ("unet",), minutes=60))


def test_columns_that_are_needed_are_named(plan, tmp_path):
    rows = [{key: value for key, value in toys.row("red", "3d render").items() if key != "label"}]
    other = replace(plan, pictures=toys.write_parquet(tmp_path / "bare.parquet", rows))
    with pytest.raises(ValueError, match=r"bare\.parquet.*no column label"):
        list(tintype.train(other, ("clip",), minutes=60))


def test_a_file_that_has_changed_is_read_again(tmp_path):
    plan = toys.plan(tmp_path)
    toys.write_parquet(plan.pictures)
    os.utime(plan.pictures, (1, 1))
    assert len(tintype._pictures(plan, "train")) == 12
    toys.write_parquet(plan.pictures, [toys.row("red", "3d render")])
    assert len(tintype._pictures(plan, "train")) == 1
