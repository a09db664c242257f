"""Where an IP-Adapter's parameters are: as its authors wrote them, which everybody reads."""

from collections.abc import Iterator, Mapping

from ...models.ip_adapter import IPAdapterConfig
from ..layout import Rule, Shapes

# fmt: off
LAYER = {
    "norm_picture": "0.norm1", "norm_tokens": "0.norm2", "q": "0.to_q", "kv": "0.to_kv", "out": "0.to_out",
    "norm_mlp": "1.0", "up": "1.1", "down": "1.3",
}
PROJECT = "proj", "norm", "latents", "proj_in", "proj_out", "norm_out"
RULES = {"authors": {
    **{f"project.{name}": Rule(f"image_proj.{name}") for name in PROJECT},
    **{f"project.layers.{{i}}.{ours}": Rule(f"image_proj.layers.{{i}}.{theirs}") for ours, theirs in LAYER.items()},
    **{f"attention.{{n}}.{x}": Rule(f"ip_adapter.{{odd}}.to_{x}_ip") for x in "kv"},
}}
# fmt: on


def numbers(c: IPAdapterConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for. Self-attention is counted along, so that cross-attention has odd numbers."""
    for n in range(max(len(c.widths), c.depth)):
        yield {"n": n, "odd": 2 * n + 1, "i": n}


def infer(shapes: Shapes) -> IPAdapterConfig:
    """The config that the shapes show."""
    key = "attention.{n}.k.weight"
    count = shapes.count(key, lambda n: {"n": n, "odd": 2 * n + 1})
    sizes = [shapes.find(key, 2, n=n, odd=2 * n + 1) for n in range(count)]
    widths, context = tuple(size[0] for size in sizes), sizes[0][1] if sizes else 0
    if shapes.has("project.latents"):
        _, tokens, width = shapes.find("project.latents", 3)
        depth = shapes.count("project.layers.{i}.q.weight", lambda i: {"i": i})
        inner = shapes.find("project.layers.{i}.q.weight", 2, i=0)[0]
        features = shapes.find("project.proj_in.weight", 2)[1]
        return IPAdapterConfig(widths, context, features, tokens, depth, width, inner)
    out, features = shapes.find("project.proj.weight", 2)
    return IPAdapterConfig(widths, context, features, out // max(1, context))
