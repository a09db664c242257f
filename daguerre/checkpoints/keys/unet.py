"""Where the U-Net's parameters are: ldm (CompVis, Stability, most single files) and diffusers."""

from ...models.unet import UNetConfig
from ..layout import Rule, Shapes

COLUMN = {"ldm": 1, "diffusers": 2}

# fmt: off
RES = [
    ("norm1", "in_layers.0",     "norm1"),
    ("conv1", "in_layers.2",     "conv1"),
    ("time",  "emb_layers.1",    "time_emb_proj"),
    ("norm2", "out_layers.0",    "norm2"),
    ("conv2", "out_layers.3",    "conv2"),
    ("skip",  "skip_connection", "conv_shortcut"),
]
ATTENTION = [(ours, theirs, theirs) for ours, theirs in [
    ("norm",              "norm"),
    ("proj_in",           "proj_in"),
    ("proj_out",          "proj_out"),
    ("blocks.*.norm1",    "transformer_blocks.*.norm1"),
    ("blocks.*.norm2",    "transformer_blocks.*.norm2"),
    ("blocks.*.norm3",    "transformer_blocks.*.norm3"),
    ("blocks.*.mlp.up",   "transformer_blocks.*.ff.net.0.proj"),
    ("blocks.*.mlp.down", "transformer_blocks.*.ff.net.2"),
    *[(f"blocks.*.{ours}.{a}", f"transformer_blocks.*.{theirs}.{b}")
      for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
      for a, b in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0"))],
]]
ENDS = [
    ("time_mlp.0",     "time_embed.0",     "time_embedding.linear_1"),
    ("time_mlp.2",     "time_embed.2",     "time_embedding.linear_2"),
    ("vector_mlp.0",   "label_emb.0.0",    "add_embedding.linear_1"),
    ("vector_mlp.2",   "label_emb.0.2",    "add_embedding.linear_2"),
    ("encoder.0.conv", "input_blocks.0.0", "conv_in"),
    ("norm_out",       "out.0",            "conv_norm_out"),
    ("conv_out",       "out.2",            "conv_out"),
    ("mid_in",         "middle_block.0",   "mid_block.resnets.0"),
    ("mid_attn",       "middle_block.1",   "mid_block.attentions.0"),
]
# fmt: on


def _encoder(blocks: int, level: int, i: int) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """Residual block and attention number `i` of a level, in the three columns."""
    n = 1 + level * (blocks + 1) + i
    res = f"encoder.{n}.res", f"input_blocks.{n}.0", f"down_blocks.{level}.resnets.{i}"
    return res, (f"encoder.{n}.attn", f"input_blocks.{n}.1", f"down_blocks.{level}.attentions.{i}")


def _roots(c: UNetConfig) -> list[tuple[str, str, str]]:
    """Every residual block, attention and single layer of a U-Net of this structure, in the three columns."""
    roots = [*ENDS, ("mid_out", f"middle_block.{2 if c.mid_depth else 1}", "mid_block.resnets.1")]
    levels = len(c.channels)
    for level in range(levels):
        for i in range(c.blocks):
            roots += _encoder(c.blocks, level, i)
        n = (level + 1) * (c.blocks + 1)
        roots.append((f"encoder.{n}.down", f"input_blocks.{n}.0.op", f"down_blocks.{level}.downsamplers.0.conv"))
    for n in range(levels * (c.blocks + 1)):
        step, i = divmod(n, c.blocks + 1)
        behind = 2 if c.depth[levels - 1 - step] else 1  # the upsampler comes after the attention, if any
        up = f"up_blocks.{step}"
        roots.append((f"decoder.{n}.res", f"output_blocks.{n}.0", f"{up}.resnets.{i}"))
        roots.append((f"decoder.{n}.attn", f"output_blocks.{n}.1", f"{up}.attentions.{i}"))
        roots.append((f"decoder.{n}.up", f"output_blocks.{n}.{behind}.conv", f"{up}.upsamplers.0.conv"))
    return roots


def rules(c: UNetConfig, layout: str) -> list[Rule]:
    """The rows of the table in this layout, for a network of this structure."""
    column, found = COLUMN[layout], []
    for root in _roots(c):
        inner = [("", "", "")]
        if root[0].endswith((".res", "mid_in", "mid_out")):
            inner = RES
        elif root[0].endswith("attn"):
            inner = ATTENTION
        for rule in inner:
            for k in range(max(*c.depth, c.mid_depth)) if "*" in rule[0] else [0]:
                native, foreign = (f"{root[j]}.{rule[j]}".strip(".").replace("*", str(k)) for j in (0, column))
                found.append(Rule(native, foreign))
    return found


def infer(shapes: Shapes, layout: str) -> UNetConfig:
    """The config that the shapes show: all but groups, and heads, which are as in the real models."""
    column = COLUMN[layout]
    first, conv_out, vector, middle = (ENDS[n][column] for n in (4, 6, 2, 8))
    conv1, block = f"{RES[1][column]}.weight", "transformer_blocks.*.norm1.weight"
    counted = {"ldm": ("input_blocks.*.0", 1), "diffusers": ("down_blocks.0.resnets.*", 0)}[layout]
    blocks = shapes.count(f"{counted[0]}.{conv1}", counted[1])

    attentions = [middle] if f"{middle}.proj_in.weight" in shapes else []
    channels: list[int] = []
    depth: list[int] = []
    while f"{(stage := _encoder(blocks, len(channels), 0))[0][column]}.{conv1}" in shapes:
        res, attention = (root[column] for root in stage)
        channels.append(shapes.find(f"{res}.{conv1}", 4)[0])
        depth.append(shapes.count(f"{attention}.{block}"))
        attentions += [attention] if depth[-1] else []
    stages = 2 * blocks + 1
    shapes.expect(stages * (10 * len(channels) + 20 * sum(depth)))  # in each residual, each transformer block
    a = attentions[0] if attentions else middle
    linear = len(shapes.find(f"{a}.proj_in.weight", 2, 4)) == 2
    return UNetConfig(
        tuple(channels),
        tuple(depth),
        context=shapes.find(f"{a}.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        mid_depth=shapes.count(f"{middle}.{block}"),
        blocks=blocks,
        vector=shapes.find(f"{vector}.weight", 2)[1] if f"{vector}.weight" in shapes else 0,
        linear=linear,
        heads=0 if linear else 8,
        channels_in=shapes.find(f"{first}.weight", 4)[1],
        channels_out=shapes.find(f"{conv_out}.weight", 4)[0],
    )
