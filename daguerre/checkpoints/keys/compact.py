"""Where the parameters of Real-ESRGAN's compact networks are: there is one layout, and it is ours."""

from collections.abc import Iterator, Mapping
from math import isqrt

from ...files.checkpoint import CheckpointError
from ...models.esrgan import CompactConfig
from ..layout import Rule, Shapes

RULES = {"real": {"body.{k}": Rule("body.{k}")}}


def numbers(c: CompactConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    return ({"k": k} for k in range(2 * c.convs + 3))


def infer(shapes: Shapes) -> CompactConfig:
    """The config that the shapes show."""
    layers = shapes.count("body.{k}.weight", lambda k: {"k": k})
    width, colors = shapes.find("body.{k}.weight", 4, k=0)[:2]
    made = shapes.find("body.{k}.weight", 4, k=layers - 1)[0]
    scale = isqrt(made // 3)
    if layers < 3 or layers % 2 == 0 or colors != 3 or made != 3 * scale**2:
        reason = f"it has {layers} layers that make {made} channels of {colors}; this is no known upscaler of RGB"
        raise CheckpointError(shapes.checkpoint.path, reason, remedy="Name another upscaler")
    return CompactConfig(width, (layers - 3) // 2, scale)
