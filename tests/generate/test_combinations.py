"""Every way to draw, under every control, with every guide: each takes effect beside the others and leaves nothing.

The quick cases are a Latin square: every two of them meet. The slow ones are all the others.
"""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from PIL import Image

from daguerre import Edit, Hires, ImageToImage, Inpaint, Outpaint, TextToImage, edit, inpaint, outpaint, text_to_image
from daguerre.diffusion.denoiser import Step
from daguerre.generate.controls.networks import NetworkControl
from daguerre.generate.controls.regions import Region, Regions
from daguerre.generate.drawing import Picture
from daguerre.generate.heat_maps import HeatMaps
from daguerre.generate.image_to_image import image_to_image
from daguerre.generate.refiner import Refiner
from daguerre.generate.tiled_upscale import tiled_upscale
from daguerre.request import RequestError, TiledUpscale, read_guide
from tests.generate.test_controls import KINDS, is_bare, made
from tests.generate.test_guides import STRONG
from tests.generate.test_upscale import drawing as drawn_by_hand
from tests.toy import toy as built

toy = cache(built)
GIVEN, MASK = drawn_by_hand(64), Image.new("L", (64, 64))
MASK.paste(255, (16, 16, 48, 48))
SAID = {"prompt": "a red apple", "negative_prompt": "blue", "steps": 2, "seed": 7, "cfg_scale": 3.0, "sampler": "Euler"}
PLAIN = TextToImage(**SAID, width=64, height=64)
OVER = {**SAID, "exact_steps": True}
# By the way to draw: the request, and the pictures that are given along with it.
TASKS = {
    "text": (text_to_image, PLAIN),
    "cfg++": (text_to_image, replace(PLAIN, sampler="Euler CFG++")),
    "and": (text_to_image, replace(PLAIN, prompt="an apple AND a pear :0.5")),
    "long": (text_to_image, replace(PLAIN, prompt="a red apple, " * 30, negative_prompt="[blue|green]")),
    "tiling": (text_to_image, replace(PLAIN, tiling="both")),
    "hires": (text_to_image, replace(PLAIN, hires=Hires(scale=1.5, prompt="an [apple:pear:1.5]"))),
    "img2img": (image_to_image, ImageToImage(**OVER), GIVEN),
    "inpaint": (inpaint, Inpaint(**OVER), GIVEN, MASK),
    "masked": (inpaint, Inpaint(**OVER, only_masked=True, width=64, height=64), GIVEN, MASK),
    "outpaint": (outpaint, Outpaint(**OVER, right=64, width=64, height=64), GIVEN),
    "edit": (edit, Edit(**SAID), GIVEN),
    "tiles": (tiled_upscale, TiledUpscale(**OVER, tile=64, overlap=0.0, upscaler="Lanczos"), GIVEN),
}
CONTROLS = [
    "none", "maps", "refiner", "regions", "ControlNet", "ControlLoRA", "T2I-Adapter", "IP-Adapter plus", "style",
    "style, inverted", "style, drawn", "features",
]  # fmt: skip
GUIDES = {"none": (), **{kind: (read_guide(text),) for kind, text in STRONG.items()}}
# What cannot be, and why.
REFUSED = {("outpaint", "maps"): "drawn at once", ("tiles", "sag"): "looks at the whole picture"}


def cases():
    for (i, task), (j, control), (k, guide) in product(*map(enumerate, (TASKS, CONTROLS, GUIDES))):
        slow = (i + j + k) % len(GUIDES)
        yield pytest.param(
            task, control, guide, marks=[pytest.mark.slow] if slow else [], id=f"{task}-{control}-{guide}"
        )


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    return {
        **{kind: made(kind, toy("sd1"), tmp_path_factory.mktemp("control")) for kind in CONTROLS if kind in KINDS},
        "regions": Regions(regions=(Region(mask="right", prompt="a cat"),)),
        "refiner": Refiner(toy("sd1", seed=1), 0.5),
    }


@pytest.fixture(scope="module")
def drawn(controls):
    """The last latents of a drawing, each drawn once."""

    @cache
    def drawn(task, control, guide):
        draw, request, *given = TASKS[task]
        model = toy("sd1-edit" if task == "edit" else "sd1")
        own = [HeatMaps()] if control == "maps" else [controls[control]] if control in controls else []
        if task == "outpaint" and isinstance(own[0] if own else None, NetworkControl):
            own = [replace(own[0], image=None)]  # sees what is drawn over, which grows
        *_, step, picture = draw(model, replace(request, guides=GUIDES[guide]), *given, controls=own)
        assert isinstance(step, Step)
        assert isinstance(picture, Picture)
        assert is_bare(model)
        if control == "maps":
            assert all(own[0].of(word).max() > 0 for word in own[0].words)
        else:
            assert len(picture.record.controls) == len(own)
        return step.x

    return drawn


@pytest.mark.parametrize(("task", "control", "guide"), list(cases()))
def test_all_goes_with_all(task, control, guide, drawn):
    words = REFUSED.get((task, control)) or REFUSED.get((task, guide))
    if words:
        with pytest.raises(RequestError, match=words):
            drawn(task, control, guide)
        return
    x, uncontrolled, unguided = drawn(task, control, guide), drawn(task, "none", guide), drawn(task, control, "none")
    assert x.isfinite().all()
    assert torch.equal(x, uncontrolled) == (control in ("none", "maps"))
    assert torch.equal(x, unguided) == (guide == "none")


def test_every_two_meet():
    quick = [case.values for case in cases() if not case.marks]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert len({(case[a], case[b]) for case in quick}) == len(quick)


@pytest.mark.parametrize("name", ["sd1", "sd1-edit"])
def test_no_weights_were_changed(name):
    for part, network in built(name).parts.items():
        weights = toy(name).parts[part].state_dict()
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
