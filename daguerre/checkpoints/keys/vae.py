"""Where the autoencoder's parameters are: ldm, diffusers, and diffusers before it renamed its attention."""

from collections.abc import Iterator, Mapping

from ...models.vae import VAEConfig
from ..layout import Reshape, Rules, Shapes, rules

# fmt: off
RES = [
    ("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"),
    ("skip", "nin_shortcut", "conv_shortcut"),
]
ATTENTION = [
    ("q", "q", "to_q", "query"), ("k", "k", "to_k", "key"), ("v", "v", "to_v", "value"),
    ("out", "proj_out", "to_out.0", "proj_attn"), ("norm", "norm", "group_norm"),
]
SIDES = "encoder", "decoder"
RES_AT = [
    *((f"{x}.mid.{2 * i}", f"{x}.mid.block_{i + 1}", f"{x}.mid_block.resnets.{i}") for x in SIDES for i in (0, 1)),
    ("encoder.blocks.{down}", "encoder.down.{level}.block.{i}", "encoder.down_blocks.{level}.resnets.{i}"),
    ("decoder.blocks.{up}",   "decoder.up.{last}.block.{i}",    "decoder.up_blocks.{level}.resnets.{i}"),
]
ATTENTION_AT = [(f"{x}.mid.1", f"{x}.mid.attn_1", f"{x}.mid_block.attentions.0") for x in SIDES]
DOWN = "encoder.down.{level}.downsample.conv", "encoder.down_blocks.{level}.downsamplers.0.conv"
UP = "decoder.up.{last}.upsample.conv", "decoder.up_blocks.{level}.upsamplers.0.conv"
LAYERS = [
    *((f"{x}.{ours}", f"{x}.{ours}", f"{x}.{theirs}") for x in SIDES
      for ours, theirs in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out"))),
    ("encoder.blocks.{down}.conv", *DOWN), ("decoder.blocks.{up}.conv", *UP),
    ("quant", "quant_conv"), ("post_quant", "post_quant_conv"),
]
# fmt: on


def _rules(column: int, reshape: Reshape = "same") -> Rules:
    return rules(column, (RES_AT, RES, "same"), (ATTENTION_AT, ATTENTION, reshape), (LAYERS, [("",)], "same"))


RULES = {"ldm": _rules(1, "squeeze_1x1"), "diffusers": _rules(2), "diffusers_old": _rules(3)}


def numbers(c: VAEConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    for level in range(len(c.channels)):
        for i in range(c.blocks + 2):  # the encoder has one less; its last is a downsampler
            down, up = level * (c.blocks + 1) + min(i, c.blocks), level * (c.blocks + 2) + i
            yield {"level": level, "last": len(c.channels) - 1 - level, "i": i, "down": down, "up": up}


def infer(shapes: Shapes) -> VAEConfig:
    """The config that the shapes show: all but the scale of the latents and the number of groups."""
    conv = "encoder.blocks.{down}.conv1.weight"
    levels = max(1, shapes.count(conv, lambda level: {"level": level}, i=0))
    blocks = shapes.count(conv, lambda i: {"i": i}, level=0)
    channels = tuple(shapes.find(conv, 4, level=level, i=0)[0] for level in range(levels))
    shapes.expect(8 * levels * (2 * blocks + 1))
    return VAEConfig(channels, blocks, latent_channels=shapes.find("post_quant.weight", 4)[0])
