"""Where an RRDBNet's parameters are: as ESRGAN was first published, as it was later, and as Real-ESRGAN is."""

from collections.abc import Iterator, Mapping

from ...files.checkpoint import CheckpointError
from ...models.esrgan import RRDBConfig
from ..layout import Rule, Shapes

# fmt: off
TABLE = [
    # ours                 first                                later                            Real-ESRGAN
    ("conv_in",            "model.0",                           "conv_first",                    "conv_first"),
    ("blocks.{n}.{i}.{j}", "model.1.sub.{n}.RDB{r}.conv{c}.0",  "RRDB_trunk.{n}.RDB{r}.conv{c}",
                                                                                       "body.{n}.rdb{r}.conv{c}"),
    ("conv_body",          "model.1.sub.{blocks}",              "trunk_conv",                    "conv_body"),
    ("up.{k}",             "model.{at}",                        "upconv{u}",                     "conv_up{u}"),
    ("conv_hr",            "model.{hr}",                        "HRconv",                        "conv_hr"),
    ("conv_out",           "model.{last}",                      "conv_last",                     "conv_last"),
]
# fmt: on
LAYOUTS = ("first", "later", "real")
RULES = {layout: {row[0]: Rule(row[1 + i]) for row in TABLE} for i, layout in enumerate(LAYOUTS)}


def numbers(c: RRDBConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    for n in range(max(1, c.blocks)):
        for i in range(3):
            for j in range(5):
                yield {**_at(n, i, j), **_ends(c.blocks, c.doublings)}
    for k in range(c.doublings):
        yield {**_at(0, 0, 0, k), **_ends(c.blocks, c.doublings)}


def _at(n: int = 0, i: int = 0, j: int = 0, k: int = 0) -> dict[str, int]:
    return {"n": n, "i": i, "j": j, "k": k, "r": i + 1, "c": j + 1, "u": k + 1, "at": 3 * k + 3}


def _ends(blocks: int, doublings: int) -> dict[str, int]:
    return {"blocks": blocks, "hr": 3 * doublings + 2, "last": 3 * doublings + 4}


def infer(shapes: Shapes) -> RRDBConfig:
    """The config that the shapes show. A first layout that enlarges 3 times looks like one that does so twice."""
    blocks = shapes.count("blocks.{n}.{i}.{j}.weight", lambda n: _at(n))
    doublings = shapes.count("up.{k}.weight", lambda k: _at(k=k))
    width, seen = shapes.find("conv_in.weight", 4)[:2]
    colors = shapes.find("conv_out.weight", 4, **_ends(blocks, doublings))[0]
    growth = shapes.find("blocks.{n}.{i}.{j}.weight", 4, **_at())[0]
    fold = {3: 1, 12: 2, 48: 4}.get(seen)
    if colors != 3 or fold is None or fold > 2**doublings:
        reason = f"it makes {colors} channels of {seen} and doubles them {doublings} times; RGB of RGB is supported"
        raise CheckpointError(shapes.checkpoint.path, reason, remedy="Name another upscaler")
    shapes.expect(30 * blocks)
    return RRDBConfig(width, blocks, growth, doublings, fold)
