"""Controls, styles and regions as flags: what they ask for, what a record tells, what is refused at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daguerre.cli.drawing import OutputFlags, RunFlags
from daguerre.cli.exit import Failure
from daguerre.cli.flags import DrawingFlags, ModelFlags
from daguerre.cli.generate import generate
from daguerre.cli.passes import RefinerFlags
from daguerre.cli.pictures import reproduce
from daguerre.cli.redraw import MaskFlags, img2img, inpaint
from daguerre.cli.steering import SteeringFlags
from daguerre.generate.controls.style import Style
from daguerre.generate.text_to_image import text_to_image
from daguerre.provenance import png
from daguerre.provenance.infotext import read
from daguerre.request import RequestError
from tests.generate.control_files import controlnet
from tests.toy import toy, write_toy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = toy("sd1")
    write_toy(model, tmp_path / "toy.safetensors")
    controlnet(tmp_path / "net.safetensors", model.unet.config)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "given.png")
    Image.new("L", (32, 64), 255).save(tmp_path / "narrow.png")
    return tmp_path


def record_of(folder: Path, steering: SteeringFlags):
    drawing = DrawingFlags(steps=2, size="64x64", seed=5)
    with_model = ModelFlags(model=str(folder / "toy.safetensors"), device="cpu", dtype="float32")
    path = folder / f"made-{len(steering.region)}.png"
    out = OutputFlags(out=path)
    generate("a cat", run=RunFlags(drawing=drawing, with_model=with_model, steering=steering, output=out))
    return png.read(path)


def test_flags_ask_for_controls_styles_and_regions_and_all_is_drawn_again(folder, capsys):
    plain, _ = record_of(folder, SteeringFlags())
    given = folder / "given.png"
    steering = SteeringFlags(
        control=(f"canny:{folder / 'net.safetensors'}:{given}:0.8:0-0.5",),
        control_mode="prompt",
        style_picture=f"{given}:0.5",
        region=("left:a red apple", "right:a car"),
        region_base=0.1,
    )
    record, text = record_of(folder, steering)
    assert record.pixel_sha256 != plain.pixel_sha256
    told = [(used.kind, used.name, used.weight) for used in record.controls]
    assert told == [
        ("style", "", 0.5),
        ("ControlNet", "net", 0.8),
        ("region", "a red apple", 1),
        ("region", "a car", 1),
    ]
    control = record.controls[1]
    assert (control.module, control.mode, control.start, control.end) == ("canny", "prompt", 0, 0.5)
    assert [used.role for used in record.pictures] == ["control 1", "control 2"]
    assert [used.module for used in record.controls[2:]] == ["left", "right"]
    unit = read(text)["ControlNet 0"]
    assert unit.startswith("Module: canny, Model: net [")
    assert "Weight: 0.8, Resize Mode: Crop and Resize, Guidance Start: 0.0, Guidance End: 0.5" in unit
    assert unit.endswith("Control Mode: My prompt is more important")
    assert read(text)["Region 2"] == "a car, Weight: 1, base 0.1"

    made, net = folder / "made-2.png", folder / "net.safetensors"
    reproduce(made, model=str(folder / "toy.safetensors"), given=(given, net))
    assert "pixel-identical" in capsys.readouterr().out
    for files, words in (((given,), "ControlNet 'net'"), ((net,), "control 1"), ((), "--given")):
        with pytest.raises(Failure, match=words):
            reproduce(made, model=str(folder / "toy.safetensors"), given=files)


@pytest.mark.parametrize("drawn", [False, True])
def test_a_style_reads_back_from_its_record(drawn):
    image = None if drawn else Image.new("RGB", (8, 8))
    style = Style(image=image, prompt="a sea", seed=4 * drawn, features=0.35, negative=True, align=False, weight=0.5)
    assert Style.recorded(style.told, image) == style


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        ({"control": ("cany:a:b",)}, RequestError, "unknown kind 'cany'"),
        ({"control": ("canny",)}, RequestError, "KIND:MODEL:PICTURE"),
        ({"control": ("ip-adapter:{net}",)}, RequestError, "KIND:MODEL:PICTURE"),
        ({"control": ("canny:nothing:0.8",)}, Failure, "no model nothing"),
        ({"control": ("canny:nothing:{given}",)}, Failure, "no model nothing"),
        ({"control": ("canny:{net}:nothing.png",)}, Failure, "no picture nothing.png"),
        ({"control": ("canny:{net}:{given}:1:0.5-0.2",)}, RequestError, "start < end"),
        ({"style_picture": "{given}:1..5"}, RequestError, "write the numbers as :WEIGHT:START-END"),
        ({"style_picture": "nothing.png:0.5"}, Failure, "no picture nothing.png"),
        ({"region": ("a red apple",)}, RequestError, "MASK:PROMPT"),
        ({"region_base": 0.0}, RequestError, "--region-base does nothing without --region"),
        ({"control_mode": "prompt", "region": ("left:a",)}, RequestError, "--control-mode does nothing without"),
        ({"image_encoder": Path("eyes")}, RequestError, "--image-encoder does nothing without --control ip-adapter"),
        ({"style_seed": 0}, RequestError, "--style-seed does nothing without --style-prompt"),
        ({"style_seed": 1, "style_prompt": "a", "style_picture": "{given}"}, RequestError, "beside --style-picture"),
        ({"style_features": 0.0}, RequestError, "--style-features does nothing without"),
        ({"style_inverted": True, "style_prompt": "a"}, RequestError, "--style-inverted does nothing without"),
        ({"region": ("left:a {{red|blue}} car",)}, RequestError, r"--region a {red\|blue} car: choices, wildcards"),
        ({"region": ("left:a car, __color__",)}, RequestError, "--region a car, __color__: choices, wildcards"),
        ({"style_prompt": "<lora:ink:1> a sea"}, RequestError, "--style-prompt <lora:ink:1> a sea: choices"),
    ],
)
def test_what_cannot_be_read_is_refused_before_there_is_a_model(flags, error, words, folder):
    places = {"net": folder / "net.safetensors", "given": folder / "given.png"}
    asked = {
        k: tuple(t.format_map(places) for t in v)
        if isinstance(v, tuple)
        else v.format_map(places)
        if isinstance(v, str)
        else v
        for k, v in flags.items()
    }
    with pytest.raises(error, match=words):
        SteeringFlags(**asked).around(lambda model, request: iter(()))


def test_flags_of_other_groups_without_effect_are_refused():
    with pytest.raises(RequestError, match="--switch-at does nothing without --refiner"):
        RefinerFlags(switch_at=0.0).around(text_to_image, ModelFlags())
    with pytest.raises(RequestError, match="--padding does nothing without --only-masked"):
        MaskFlags(padding=0).given()
    assert MaskFlags(padding=0, only_masked=True).given()["padding"] == 0


def test_a_given_picture_is_drawn_over_under_a_control(folder):
    given, drawing = folder / "given.png", DrawingFlags(steps=4, seed=5)
    with_model = ModelFlags(model=str(folder / "toy.safetensors"), device="cpu", dtype="float32")
    made = []
    for name, control in (("plain", ()), ("steered", (f"none:{folder / 'net.safetensors'}:{given}",))):
        out = OutputFlags(out=folder / f"{name}.png")
        steering = SteeringFlags(control=control)
        img2img(given, "a cat", run=RunFlags(drawing=drawing, with_model=with_model, steering=steering, output=out))
        made.append(png.read(folder / f"{name}.png")[0])
    assert [len(record.controls) for record in made] == [0, 1]
    assert made[0].pixel_sha256 != made[1].pixel_sha256


@pytest.mark.parametrize(("way", "size"), [("img2img", None), ("inpaint", None), ("only masked", "64x64")])
def test_a_half_is_one_of_the_given_picture_whatever_its_size(way, size, folder):
    given, mask = folder / "given.png", folder / "mask.png"
    Image.linear_gradient("L").resize((72, 96)).save(given)
    Image.new("L", (72, 96), 255).save(mask)
    with_model = ModelFlags(model=str(folder / "toy.safetensors"), device="cpu", dtype="float32")
    made = []
    for region in ("left:a car", "right:a car"):
        out = folder / f"{region[:4]}.png"
        drawing, steering = DrawingFlags(steps=2, seed=5, size=size), SteeringFlags(region=(region,))
        run = RunFlags(drawing=drawing, with_model=with_model, steering=steering, output=OutputFlags(out=out))
        if way == "img2img":
            img2img(given, "a cat", run=run)
        else:
            inpaint(given, str(mask), "a cat", masked=MaskFlags(only_masked=size is not None), run=run)
        made.append(np.asarray(Image.open(out), float))
    assert made[0].shape == (96, 72, 3)
    assert not np.array_equal(*made)


def test_a_mask_of_another_size_is_refused_naming_both(folder):
    steering = SteeringFlags(region=(f"{folder / 'narrow.png'}:a cat",))
    with pytest.raises(RequestError, match="32 x 64 pixels and the picture 64 x 64"):
        record_of(folder, steering)
    assert replace(steering, region=()).around(record_of) is record_of
