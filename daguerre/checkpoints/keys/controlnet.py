"""Where a ControlNet's parameters are: as its authors wrote it, and diffusers. Its encoder is named like a U-Net's."""

from collections.abc import Iterator, Mapping

from ...models.controlnet import ControlNetConfig
from ..layout import Rule, Shapes
from . import unet

# fmt: off
HINTS = "conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"
OWN = [
    *((f"hint.{i}", f"input_hint_block.{2 * i}", f"controlnet_cond_embedding.{name}") for i, name in enumerate(HINTS)),
    ("zero.{n}", "zero_convs.{n}.0",      "controlnet_down_blocks.{n}"),
    ("zero_mid", "middle_block_out.0", "controlnet_mid_block"),
]
# fmt: on
RULES = {
    layout: {**unet.RULES[layout], **{row[0]: Rule(row[column]) for row in OWN}}
    for column, layout in enumerate(("ldm", "diffusers"), 1)
}


def numbers(c: ControlNetConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    return unet.numbers(c.unet)


def infer(shapes: Shapes) -> ControlNetConfig:
    """The config that the shapes show: all but groups and heads."""
    wide = [shapes.find(f"hint.{i}.weight", 4)[0] for i in (0, 2, 4, 6)]
    colors = shapes.find("hint.0.weight", 4)[1]
    return ControlNetConfig(unet.infer(shapes), (wide[0], wide[1], wide[2], wide[3]), colors)
