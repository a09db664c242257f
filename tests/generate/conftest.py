"""What tests of controls share: a toy model, and a ControlNet for it."""

import pytest

from daguerre.generate.controls import load_control
from tests.generate.control_files import controlnet
from tests.toy import toy


@pytest.fixture(scope="module")
def model():
    return toy("sd1")


@pytest.fixture(scope="module")
def net(model, tmp_path_factory):
    return load_control(controlnet(tmp_path_factory.mktemp("net") / "canny.safetensors", model.unet.config), model)
