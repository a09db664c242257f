"""Every flag of the commands that draw reaches the request that a picture's record tells of."""

from dataclasses import asdict

import pytest
from PIL import Image

from daguerre.provenance import png
from daguerre.request import REQUESTS, PerturbedAttention
from tests.generate.control_files import controlnet
from tests.toy import toy, write_toy

EXACT = ("--device", "cpu", "--dtype", "float32", "--seed", 5, "--out", "made.png")
DRAWING = {
    "--negative": ("blur", {"negative_prompt": "blur"}),
    "--steps": (2, {"steps": 2}),
    "--sampler": ("Heun", {"sampler": "Heun"}),
    "--schedule": ("karras", {"schedule": "karras"}),
    "--cfg": (3, {"cfg_scale": 3}),
    "--clip-skip": (2, {"clip_skip": 2}),
    "--guidance-rescale": (0.3, {"guidance_rescale": 0.3}),
    "--guidance-interval": ((0.1, 0.9), {"guidance_interval": (0.1, 0.9)}),
    "--guide": ("pag:scale=2", {"guides": (PerturbedAttention(scale=2),)}),
    "--emphasis": ("ignore", {"emphasis": "ignore"}),
    "--no-comments": ((), {"comments": False}),
    "--variation-seed": (3, {"variation_seed": 3}),
    "--variation-strength": (0.2, {"variation_strength": 0.2}),
    "--seed-size": ("96x64", {"seed_width": 96, "seed_height": 64}),
    "--eta": (0.5, {"eta": 0.5}),
    "--s-churn": (2, {"s_churn": 2}),
    "--s-tmin": (0.1, {"s_tmin": 0.1}),
    "--s-tmax": (9, {"s_tmax": 9}),
    "--s-noise": (1.1, {"s_noise": 1.1}),
    "--ensd": (7, {"ensd": 7}),
    "--noise": ("a1111", {"noise": "a1111"}),
    "--rho": (5, {"rho": 5}),
    "--sigma-min": (0.05, {"sigma_min": 0.05}),
    "--sigma-max": (12, {"sigma_max": 12}),
}
SIZE = {"--size": ("64x64", {"width": 64, "height": 64})}
STRENGTH = {
    "--strength": (0.6, {"strength": 0.6}),
    "--exact-steps": ((), {"exact_steps": True}),
    "--resize": ("stretch", {"resize": "stretch"}),
    "--noise-multiplier": (1.05, {"noise_multiplier": 1.05}),
}
MASK = {"--mask-blur": (2, {"mask_blur": 2}), "--fill": ("latent noise", {"fill": "latent noise"})}
EDGES = {
    "--left": (8, {"left": 8}),
    "--right": (16, {"right": 16}),
    "--up": (8, {"up": 8}),
    "--down": (16, {"down": 16}),
}
COMMANDS = {
    "TextToImage": (("generate", "x"), SIZE | {"--tiling": ("x", {"tiling": "x"})}),
    "ImageToImage": (("img2img", "given.png", "x"), SIZE | STRENGTH),
    "Inpaint": (
        ("inpaint", "given.png", "mask.png", "x"),
        SIZE
        | STRENGTH
        | MASK
        | {
            "--only-masked": ((), {"only_masked": True}),
            "--padding": (8, {"padding": 8}),
            "--invert": ((), {"invert": True}),
            "--differential": ((), {"differential": True}),
        },
    ),
    "Outpaint": (("outpaint", "given.png", "x"), SIZE | STRENGTH | MASK | EDGES),
    "Edit": (("edit", "given.png", "x"), SIZE | STRENGTH | {"--image-cfg": (2, {"image_cfg_scale": 2})}),
    "TiledUpscale": (
        ("tiled-upscale", "given.png", "x"),
        {
            "--scale": (1.5, {"enlarge": 1.5}),
            "--strength": (0.6, {"strength": 0.6}),
            "--upscaler": ("Lanczos", {"upscaler": "Lanczos"}),
            "--tile": (64, {"tile": 64}),
            "--overlap": (0.5, {"overlap": 0.5}),
        },
    ),
}


@pytest.fixture
def home(tmp_path):
    write_toy(model := toy("sd1"), tmp_path / "toy.safetensors")
    controlnet(tmp_path / "net.safetensors", model.unet.config)
    write_toy(toy("sd1-edit"), tmp_path / "edits.safetensors")
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "given.png")
    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "mask.png")
    return tmp_path


@pytest.mark.parametrize("kind", COMMANDS)
def test_all_flags_of_a_command_are_in_the_record(run, tmp_path, kind):
    command, own = COMMANDS[kind]
    flags, expected = list[object](), dict[str, object]()
    for flag, (values, asked) in (DRAWING | own).items():
        flags += [flag, *(values if isinstance(values, tuple) else [values])]
        expected |= asked
    run(*command, *flags, "--model", "edits" if kind == "Edit" else "toy", *EXACT)
    record, _ = png.read(tmp_path / "made.png")
    assert type(record.request) is REQUESTS[kind]
    told, usual = ({f: getattr(one, f) for f in asdict(one)} for one in (record.request, REQUESTS[kind](prompt="x")))
    assert {name: told[name] for name in expected} == expected
    assert not [name for name, value in expected.items() if usual[name] == value and name not in ("width", "height")]
    assert {name for name in told if told[name] != usual[name]} <= expected.keys() | {
        "seed",
        "prompt",
        "width",
        "height",
    }


def test_all_that_steers_is_in_the_record(run, tmp_path):
    steering = ("--control", "canny:net.safetensors:given.png:0.8:0-0.5", "--control-mode", "prompt")
    regions = ("--region", "left:a car", "--region", "mask.png:a tree", "--region-base", 0.2)
    style = ("--style-picture", "given.png:0.5", "--style-prompt", "a sea", "--style-features", 0.3, "--style-inverted")
    small = ("--model", "toy", "--steps", 2, "--size", "64x64")
    run("generate", "x", *steering, *regions, *style, *small, *EXACT)
    record, _ = png.read(tmp_path / "made.png")
    styled, control, left, right = record.controls
    assert (styled.kind, styled.module, styled.name, styled.weight) == ("style", "inverted", "a sea", 0.5)
    assert styled.mode.endswith("features 0.3")
    assert (control.module, control.mode, control.weight, control.end) == ("canny", "prompt", 0.8, 0.5)
    assert [(r.name, r.mode) for r in (left, right)] == [("a car", "base 0.2"), ("a tree", "base 0.2")]
    run("generate", "x", "--style-prompt", "a sea", "--style-seed", 9, *small, *EXACT)
    record, _ = png.read(tmp_path / "made-2.png")
    assert record.controls[0].module == "seed 9"
