"""Where a T2I-Adapter's parameters are: as its authors wrote them, the full ones and the light ones, and diffusers."""

from collections.abc import Iterator, Mapping

from ...models.t2i_adapter import T2IAdapterConfig
from ..layout import Rule, Shapes

# fmt: off
BLOCK = [("conv1", "block1"), ("conv2", "block2")]
ENDS = [("conv_in", "in_conv"), ("conv_out", "out_conv")]
FULL = {
    "conv_in": Rule("conv_in"),
    "levels.{n}.conv_in": Rule("body.{first}.in_conv"),
    **{f"levels.{{n}}.blocks.{{i}}.{ours}": Rule(f"body.{{nth}}.{theirs}") for ours, theirs in BLOCK},
}
LIGHT = {
    **{f"levels.{{n}}.{ours}": Rule(f"body.{{n}}.{theirs}") for ours, theirs in ENDS},
    **{f"levels.{{n}}.blocks.{{i}}.{ours}": Rule(f"body.{{n}}.body.{{i}}.{theirs}") for ours, theirs in BLOCK},
}
DIFFUSERS = {
    "conv_in": Rule("adapter.conv_in"),
    **{f"levels.{{n}}.{ours}": Rule(f"adapter.body.{{n}}.{theirs}") for ours, theirs in ENDS},
    **{f"levels.{{n}}.blocks.{{i}}.{ours}": Rule(f"adapter.body.{{n}}.resnets.{{i}}.{theirs}")
       for ours, theirs in BLOCK},
}
# fmt: on
RULES = {"full": FULL, "light": LIGHT, "diffusers": DIFFUSERS}


def numbers(c: T2IAdapterConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    for n in range(len(c.channels)):
        for i in range(c.blocks):
            yield {"n": n, "i": i, "first": n * c.blocks, "nth": n * c.blocks + i}


def infer(shapes: Shapes) -> T2IAdapterConfig:
    """The config that the shapes show. The authors' long lists of blocks are those of four levels."""
    at = {"n": 0, "i": 0, "first": 0, "nth": 0}
    block, full = "levels.{n}.blocks.{i}.conv1.weight", shapes.part.layout == "full"
    light = not full and shapes.has("levels.{n}.conv_out.weight", **at)
    if full:
        levels = 4
        blocks = shapes.count(block, lambda nth: {**at, "nth": nth}) // levels
    else:
        levels = shapes.count(block, lambda n: {**at, "n": n})
        blocks = shapes.count(block, lambda i: {**at, "i": i})
    width, ends = "levels.{n}.conv_out.weight" if light else block, range(levels)
    channels = tuple(shapes.find(width, 4, **{**at, "n": n, "nth": n * blocks})[0] for n in ends)
    seen = shapes.find("levels.{n}.conv_in.weight" if light else "conv_in.weight", 4, **at)[1]
    large = not light and seen % 256 == 0
    return T2IAdapterConfig(
        channels, blocks, colors=seen // (256 if large else 64), kind="light" if light else "xl" if large else "full"
    )
