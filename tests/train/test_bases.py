"""What runs start from: owned, frozen, in float32; and networks that take more channels and begin as they were."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daguerre.request import RequestError
from daguerre.train.bases import base_model, widened
from daguerre.train.config import Objective, Run
from tests.toy import toy, write_toy


def run(path, **objective):
    return Run(recipe="full", run=Path("unused"), base=str(path), device="cpu", objective=Objective(**objective))


@pytest.fixture
def file(tmp_path):
    return write_toy(toy("sd1"), tmp_path / "base.safetensors")


def test_a_base_is_owned_frozen_and_in_float32(file):
    model = base_model(run(file))
    before = file.read_bytes()
    for part in model.parts.values():
        for parameter in part.parameters():
            assert not parameter.requires_grad
            assert parameter.dtype == torch.float32
            parameter.data.zero_()
    assert file.read_bytes() == before  # not mapped
    assert len(model.sha256) == 64


def test_the_built_in_model_is_a_base():
    model = base_model(run("tintype"))
    assert (model.family.name, model.name) == ("tintype", "tintype")


def test_noise_ladder_and_prediction_are_those_of_the_objective(file):
    usual, other = base_model(run(file)), base_model(run(file, zero_snr=True, prediction="v"))
    assert (usual.prediction, other.prediction) == ("epsilon", "v")
    assert other.levels.sigmas[-1] > 100 > usual.levels.sigmas[-1]


@pytest.mark.parametrize(("family", "channels"), [("sd1-inpaint", 9), ("sd1-edit", 8)])
def test_a_wider_network_begins_as_it_was(family, channels):
    base = toy("sd1")
    wide = widened(base, channels, family)
    assert wide.family.name == family
    assert wide.unet.config == replace(base.unet.config, channels_in=channels)
    rng = torch.Generator().manual_seed(0)
    x, more = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, channels - 4, 8, 8, generator=rng)
    t, tokens = torch.tensor([10.0, 900.0]), torch.randn(2, 77, 32, generator=rng)
    torch.testing.assert_close(wide.unet(torch.cat([x, more], dim=1), t, tokens), base.unet(x, t, tokens))
    assert base.unet.config.channels_in == 4
    assert not any(p.requires_grad for p in wide.unet.parameters())


def test_widening_draws_no_random_numbers_of_the_process():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    widened(toy("sd1"), 9, "sd1-inpaint")
    assert torch.equal(torch.rand(3), expected)


def test_a_network_that_is_wide_enough_stays():
    model = toy("sd1-inpaint")
    assert widened(model, 9, "sd1-inpaint") is model
    with pytest.raises(RequestError, match="has 9 input channels; this recipe wants a model of 4 or 8"):
        widened(model, 8, "sd1-edit")
