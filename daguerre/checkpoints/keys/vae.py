"""Where the autoencoder's parameters are: ldm, diffusers, and diffusers before it renamed its attention."""

from ...models.vae import VAEConfig
from ..layout import Reshape, Rule, Shapes

COLUMN = {"ldm": 1, "diffusers": 2, "diffusers_old": 3}

# fmt: off
RES = [
    ("norm1", "norm1",        "norm1"),
    ("conv1", "conv1",        "conv1"),
    ("norm2", "norm2",        "norm2"),
    ("conv2", "conv2",        "conv2"),
    ("skip",  "nin_shortcut", "conv_shortcut"),
]
ATTENTION = [
    ("norm", "norm",     "group_norm", "group_norm"),
    ("q",    "q",        "to_q",       "query"),
    ("k",    "k",        "to_k",       "key"),
    ("v",    "v",        "to_v",       "value"),
    ("out",  "proj_out", "to_out.0",   "proj_attn"),
]
ENDS = [
    ("conv_in",  "conv_in",     "conv_in"),
    ("norm_out", "norm_out",    "conv_norm_out"),
    ("conv_out", "conv_out",    "conv_out"),
    ("mid.0",    "mid.block_1", "mid_block.resnets.0"),
    ("mid.1",    "mid.attn_1",  "mid_block.attentions.0"),
    ("mid.2",    "mid.block_2", "mid_block.resnets.1"),
]
# fmt: on


def _roots(c: VAEConfig) -> list[tuple[str, str, str]]:
    """Every residual block, attention and single layer, natively, in ldm and in diffusers."""
    roots = [("quant", "quant_conv", "quant_conv"), ("post_quant", "post_quant_conv", "post_quant_conv")]
    roots += [(f"{side}.{a}", f"{side}.{b}", f"{side}.{d}") for side in ("encoder", "decoder") for a, b, d in ENDS]
    last = len(c.channels) - 1
    for level in range(last + 1):
        down, up, theirs = f"encoder.down.{level}", f"decoder.up.{last - level}", f"_blocks.{level}"
        n, m = level * (c.blocks + 1), level * (c.blocks + 2)
        for i in range(c.blocks):
            roots.append((f"encoder.blocks.{n + i}", f"{down}.block.{i}", f"encoder.down{theirs}.resnets.{i}"))
        for i in range(c.blocks + 1):
            roots.append((f"decoder.blocks.{m + i}", f"{up}.block.{i}", f"decoder.up{theirs}.resnets.{i}"))
        n, m = n + c.blocks, m + c.blocks + 1
        conv = f"encoder.down{theirs}.downsamplers.0.conv", f"decoder.up{theirs}.upsamplers.0.conv"
        roots.append((f"encoder.blocks.{n}.conv", f"{down}.downsample.conv", conv[0]))
        roots.append((f"decoder.blocks.{m}.conv", f"{up}.upsample.conv", conv[1]))
    return roots


def rules(c: VAEConfig, layout: str) -> list[Rule]:
    """The rows of the table in this layout, for a network of this structure."""
    column, found = COLUMN[layout], []
    reshape: Reshape = "squeeze_1x1" if layout == "ldm" else "same"
    for native, *paths in _roots(c):
        foreign = paths[min(column, 2) - 1]
        if native.endswith("mid.1"):
            found += [Rule(f"{native}.{row[0]}", f"{foreign}.{row[column]}", reshape) for row in ATTENTION]
        elif native.rsplit(".", 1)[-1].isdigit():
            found += [Rule(f"{native}.{row[0]}", f"{foreign}.{row[min(column, 2)]}") for row in RES]
        else:
            found.append(Rule(native, foreign))
    return found


def infer(shapes: Shapes, layout: str) -> VAEConfig:
    """The config that the shapes show: all but the scale of the latents and the number of groups."""
    level = "encoder.down.{}.block.{}" if layout == "ldm" else "encoder.down_blocks.{}.resnets.{}"
    levels = shapes.count(f"{level.format('*', 0)}.conv1.weight")
    channels = (shapes.find(f"{level.format(n, 0)}.conv1.weight", 4)[0] for n in range(levels))
    blocks = shapes.count(f"{level.format(0, '*')}.conv1.weight")
    shapes.expect(8 * levels * (2 * blocks + 1))
    return VAEConfig(tuple(channels), blocks, latent_channels=shapes.find("post_quant_conv.weight", 4)[0])
