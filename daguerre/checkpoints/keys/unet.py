"""Where the U-Net's parameters are: ldm (CompVis, Stability, most single files) and diffusers."""

from collections.abc import Iterator, Mapping

from ...models.unet import UNetConfig
from ..layout import MOST, Shapes, rules

# fmt: off
RES = [
    ("norm1", "in_layers.0", "norm1"), ("conv1", "in_layers.2", "conv1"), ("norm2", "out_layers.0", "norm2"),
    ("conv2", "out_layers.3", "conv2"), ("time", "emb_layers.1", "time_emb_proj"),
    ("skip", "skip_connection", "conv_shortcut"),
]
RES_AT = [
    ("mid_in",              "middle_block.0",         "mid_block.resnets.0"),
    ("mid_out",             "middle_block.{end}",     "mid_block.resnets.1"),
    ("encoder.{after}.res", "input_blocks.{after}.0", "down_blocks.{level}.resnets.{i}"),
    ("decoder.{n}.res",     "output_blocks.{n}.0",    "up_blocks.{level}.resnets.{i}"),
]
BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "norm3": "norm3", "mlp.up": "ff.net.0.proj", "mlp.down": "ff.net.2",
    **{f"{ours}.{x}": f"{theirs}.to_{x}{'.0' * (x == 'out')}"
       for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2")) for x in ("q", "k", "v", "out")},
}
ATTENTION = [
    ("norm", "norm"), ("proj_in", "proj_in"), ("proj_out", "proj_out"),
    *((f"blocks.{{k}}.{ours}", f"transformer_blocks.{{k}}.{theirs}") for ours, theirs in BLOCK.items()),
]
ATTENTION_AT = [
    ("mid_attn",             "middle_block.1",         "mid_block.attentions.0"),
    ("encoder.{after}.attn", "input_blocks.{after}.1", "down_blocks.{level}.attentions.{i}"),
    ("decoder.{n}.attn",     "output_blocks.{n}.1",    "up_blocks.{level}.attentions.{i}"),
]
LAYERS = [
    ("time_mlp.0",   "time_embed.0",  "time_embedding.linear_1"), ("norm_out", "out.0", "conv_norm_out"),
    ("time_mlp.2",   "time_embed.2",  "time_embedding.linear_2"), ("conv_out", "out.2", "conv_out"),
    ("vector_mlp.0", "label_emb.0.0", "add_embedding.linear_1"), ("encoder.0.conv", "input_blocks.0.0", "conv_in"),
    ("vector_mlp.2", "label_emb.0.2", "add_embedding.linear_2"),
    ("encoder.{after}.down", "input_blocks.{after}.0.op",       "down_blocks.{level}.downsamplers.0.conv"),
    ("decoder.{n}.up",       "output_blocks.{n}.{behind}.conv", "up_blocks.{level}.upsamplers.0.conv"),
]
# fmt: on
RULES = {
    layout: rules(column, (RES_AT, RES, "same"), (ATTENTION_AT, ATTENTION, "same"), (LAYERS, [("",)], "same"))
    for column, layout in enumerate(("ldm", "diffusers"), 1)
}


def _at(n: int, blocks: int) -> dict[str, int]:
    """The numbers of a block, the `i`th of its level: `n` in the decoder, `after` the first layer in the encoder."""
    level, i = divmod(n, blocks + 1)
    return {"n": n, "after": n + 1, "level": level, "i": i}


def numbers(c: UNetConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    for n in range(len(c.channels) * (c.blocks + 1)):
        at = _at(n, c.blocks)
        down, up = c.depth[at["level"]], c.depth[-1 - at["level"]]
        ends = {"end": 2 if c.mid_depth else 1, "behind": 2 if up else 1}  # what comes after the attention, if any
        for k in range(max(1, down, up, 0 if n else c.mid_depth)):
            yield {**at, **ends, "k": k}


def infer(shapes: Shapes) -> UNetConfig:
    """The config that the shapes show: all but groups, and heads, which are as in the real models."""
    conv, attention, block = "encoder.{after}.res.conv1.weight", "encoder.{after}.attn", "blocks.{k}.norm1.weight"
    blocks = shapes.count(conv, lambda i: _at(i, MOST))
    levels = max(1, shapes.count(conv, lambda level: _at(level * (blocks + 1), blocks)))
    starts = [_at(level * (blocks + 1), blocks) for level in range(levels)]
    channels = tuple(shapes.find(conv, 4, **at)[0] for at in starts)
    depth = tuple(shapes.count(f"{attention}.{block}", lambda k: {"k": k}, **at) for at in starts)
    whole = shapes.has("conv_out.weight")  # a ControlNet has no decoder
    # Of each residual block 10 tensors, of each transformer block 20.
    shapes.expect((2 * blocks + 1 if whole else blocks) * (10 * levels + 20 * sum(depth)))

    places = [("mid_attn", {}), *((attention, at) for at in starts)]
    place, at = next((p for p in places if shapes.has(f"{p[0]}.proj_in.weight", **p[1])), places[0])
    linear = len(shapes.find(f"{place}.proj_in.weight", 2, 4, **at)) == 2
    vector = shapes.find("vector_mlp.0.weight", 2)[1] if shapes.has("vector_mlp.0.weight") else 0
    context = shapes.find(f"{place}.blocks.{{k}}.cross_attn.k.weight", 2, k=0, **at)[1]
    mid = shapes.count(f"mid_attn.{block}", lambda k: {"k": k})
    first = shapes.find("encoder.0.conv.weight", 4)[1]
    last = shapes.find("conv_out.weight", 4)[0] if whole else first
    more = {"blocks": blocks, "vector": vector, "channels_in": first, "channels_out": last}
    return UNetConfig(channels, depth, context, mid, heads=0 if linear else 8, linear=linear, **more)
