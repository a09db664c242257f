"""What `daguerre` exports, and the commands that it registers, exist."""

import importlib
import importlib.metadata
import re

import pytest
from rooms import PACKAGE

import daguerre

COMMANDS = re.findall(r'"(daguerre\.[\w.]+):(\w+)"', (PACKAGE / "cli" / "main.py").read_text(encoding="utf-8"))


def test_exports() -> None:
    assert sorted(daguerre.__all__) == [
        "AdapterFile",
        "Edit",
        "HeatMaps",
        "Hires",
        "ImageToImage",
        "Inpaint",
        "Model",
        "Outpaint",
        "Picture",
        "Refiner",
        "RequestError",
        "Step",
        "TextToImage",
        "TiledUpscale",
        "adapted",
        "edit",
        "image_to_image",
        "inpaint",
        "load_model",
        "load_upscaler",
        "outpaint",
        "text_to_image",
        "tiled_upscale",
        "upscaled",
    ]


@pytest.mark.parametrize("name", daguerre.__all__)
def test_an_export_can_be_had(name: str) -> None:
    assert getattr(daguerre, name).__name__ == name


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="'daguerre' has no attribute 'paint'"):
        daguerre.paint  # noqa: B018


@pytest.mark.parametrize(("module", "function"), COMMANDS)
def test_a_command_exists(module: str, function: str) -> None:
    assert callable(getattr(importlib.import_module(module), function))


def test_the_version_is_the_one_installed() -> None:
    assert importlib.metadata.version("daguerre") == daguerre.__version__
