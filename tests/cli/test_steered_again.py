"""Controls with pictures that are drawn in parts or edited: by flags, and again from the record."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

from daguerre.checkpoints.layout import Part
from daguerre.cli.drawing import OutputFlags, RunFlags
from daguerre.cli.exit import Failure
from daguerre.cli.flags import DrawingFlags, ModelFlags
from daguerre.cli.generate import generate
from daguerre.cli.pictures import reproduce
from daguerre.cli.redraw import edit, img2img, outpaint
from daguerre.cli.steering import SteeringFlags
from daguerre.cli.tiled_upscale import tiled_upscale
from daguerre.generate.controls import half
from daguerre.models.controlnet import ControlNetConfig
from daguerre.provenance import png
from daguerre.request import RequestError
from tests.generate.control_files import controlnet, ip_adapter, random_state, vision_tower
from tests.toy import UNETS, toy, write_toy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("sd1", "sd1-edit"):
        write_toy(toy(name), tmp_path / f"{name}.safetensors")
    controlnet(tmp_path / "net.safetensors", UNETS["sd1"])
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "given.png")
    for width, height in ((64, 64), (96, 64), (128, 128)):
        Image.effect_noise((width, height), 80).convert("RGB").save(tmp_path / f"{width}x{height}.png")
    return tmp_path


def run(folder, name="sd1", **steering):
    asked = {k: v.format(d=folder) if isinstance(v, str) else tuple(t.format(d=folder) for t in v)
             for k, v in steering.items()}  # fmt: skip
    return RunFlags(
        drawing=DrawingFlags(steps=2, seed=5, size="64x64" if name == "window" else None),
        with_model=ModelFlags(model=str(folder / f"{'sd1-edit' if name == 'edit' else 'sd1'}.safetensors"),
                              device="cpu", dtype="float32"),
        steering=SteeringFlags(**asked),
        output=OutputFlags(out=folder / f"made-{len(list(folder.iterdir()))}.png"),
    )  # fmt: skip


def upscaled(folder, **steering):
    asked = run(folder, **steering)
    tiled_upscale(folder / "given.png", "a cat", upscaler="Lanczos", tile=64, overlap=0, strength=0.5, run=asked)
    return asked.output.out


def drawn_on(folder, **steering):
    asked = run(folder, "window", **steering)
    outpaint(folder / "given.png", "a cat", right=32, run=asked)
    return asked.output.out


def edited(folder, **steering):
    asked = run(folder, "edit", **steering)
    edit(folder / "given.png", "make it snow", run=asked)
    return asked.output.out


NET, STYLE = "canny:{d}/net.safetensors:{d}/", {"style_picture": "{d}/64x64.png:0.5"}
TASKS = {
    "tiled upscale": (upscaled, "128x128.png", {"region": ("left:a red apple",)}),
    "tiled upscale, the picture itself": (upscaled, "", {"region": ("right:a car",)}),
    "outpaint": (drawn_on, "96x64.png", {"region": ("right:a car",), **STYLE}),
    "outpaint, what is known": (drawn_on, "", {"region": ("right:a car",)}),
    "edit": (edited, "64x64.png", {"region": ("left:make it rain",), **STYLE}),
}


@pytest.mark.parametrize("name", TASKS)
def test_what_steers_parts_and_edits_is_drawn_again_from_the_record(name, folder, capsys):
    draw, hint, more = TASKS[name]
    control = NET + hint if hint else "tile:{d}/net.safetensors:0.7"
    made = {
        "plain": draw(folder),
        "control": draw(folder, control=(control,)),
        "all": draw(folder, control=(control,), **more),
    }
    assert len({png.read(path)[0].pixel_sha256 for path in made.values()}) == 3
    record, model = png.read(made["all"])[0], ("sd1-edit" if draw is edited else "sd1")
    kinds = {"ControlNet", "region"} | ({"style"} if "style_picture" in more else set())
    assert {used.kind for used in record.controls} == kinds
    assert next(used.weight for used in record.controls if used.kind == "ControlNet") == (1 if hint else 0.7)
    capsys.readouterr()
    files = [folder / "net.safetensors", *([folder / hint] if hint else []), folder / "64x64.png"]
    how = {"model": str(folder / f"{model}.safetensors"), "image": folder / "given.png"}
    reproduce(made["all"], given=tuple(files), **how)
    assert "pixel-identical" in capsys.readouterr().out
    with pytest.raises(Failure, match="the ControlNet 'net'"):
        reproduce(made["all"], given=tuple(files[1:]), **how)
    if hint:
        with pytest.raises(Failure, match="drawn with a picture, control"):
            reproduce(made["all"], given=(files[0],), **how)


def test_a_control_of_a_folder_is_found_again(folder, capsys):
    (folder / "net").mkdir()
    state = random_state(Part("ControlNet", "diffusers"), ControlNetConfig(UNETS["sd1"], (4, 6, 8, 8)), 1)
    save_file(state, folder / "net" / "diffusion_pytorch_model.safetensors")
    asked = run(folder, "window", control=("canny:{d}/net:{d}/64x64.png",))
    generate("a cat", run=asked)
    reproduce(asked.output.out, model=str(folder / "sd1.safetensors"), given=(folder / "net", folder / "64x64.png"))
    assert "pixel-identical" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["left", "bottom"])
def test_a_half_that_is_recorded_by_its_pixels_needs_no_file(name, folder, capsys):
    half(name, (64, 96)).save(folder / "half.png")
    asked = run(folder, region=("{d}/half.png:a red apple",))
    asked = replace(asked, drawing=replace(asked.drawing, size="64x96"))
    generate("a cat", run=asked)
    (folder / "half.png").unlink()
    reproduce(asked.output.out, model=str(folder / "sd1.safetensors"))
    assert "pixel-identical" in capsys.readouterr().out


def test_the_image_encoder_is_found_again_beside_the_adapter_or_where_it_is_given(folder, capsys):
    adapter, encoder = ip_adapter(folder / "ip.safetensors", UNETS["sd1"], plus=False), folder / "image_encoder"
    control = ("ip-adapter:{d}/ip.safetensors:{d}/64x64.png",)
    with pytest.raises(RequestError, match="needs the CLIP that it sees by; name it with --image-encoder"):
        drawn_on(folder, control=control)
    asked = run(folder, "window", control=control)
    asked = replace(asked, steering=replace(asked.steering, image_encoder=vision_tower(folder / "clip.safetensors")))
    outpaint(folder / "given.png", "a cat", right=32, run=asked)
    plain = drawn_on(folder)
    assert png.read(asked.output.out)[0].pixel_sha256 != png.read(plain)[0].pixel_sha256
    how = {"model": str(folder / "sd1.safetensors"), "image": folder / "given.png"}
    files = (adapter, folder / "64x64.png")
    reproduce(asked.output.out, given=(*files, folder / "clip.safetensors"), **how)
    assert "pixel-identical" in capsys.readouterr().out
    other = vision_tower(folder / "other.safetensors", seed=6)
    for more in ((), (other,)):
        with pytest.raises(Failure, match=r"IP-Adapter and a CLIP that it sees by \(sha256 .*--given"):
            reproduce(asked.output.out, given=(*files, *more), **how)
    encoder.mkdir()
    vision_tower(encoder / "model.safetensors")
    reproduce(asked.output.out, given=files, **how)
    assert "pixel-identical" in capsys.readouterr().out


def test_the_picture_that_is_drawn_over_is_the_hint_by_default(folder):
    made = []
    for control in ("tile:{d}/net.safetensors", "tile:{d}/net.safetensors:{d}/given.png"):
        asked = run(folder, control=(control,))
        img2img(folder / "given.png", "a cat", run=asked)
        made.append(png.read(asked.output.out)[0])
    assert made[0].pixel_sha256 == made[1].pixel_sha256
    assert [[used.role for used in record.pictures] for record in made] == [["image"], ["image", "control 1"]]
    with pytest.raises(RequestError, match="ControlNet net has no picture to see"):
        generate("a cat", run=run(folder, "window", control=("tile:{d}/net.safetensors",)))


def test_a_hint_of_another_shape_is_refused_naming_both(folder):
    with pytest.raises(RequestError, match="has 96 x 64 pixels and the whole picture 128 x 128"):
        upscaled(folder, control=(NET + "96x64.png",))
    with pytest.raises(RequestError, match="has 64 x 64 pixels and the whole picture 96 x 64"):
        drawn_on(folder, control=(NET + "64x64.png",))
    with pytest.raises(RequestError, match="region 1 has 64 x 64 pixels and the picture 96 x 64"):
        drawn_on(folder, region=("{d}/64x64.png:a car",))
