"""Tells which upscaler of ESRGAN's family a checkpoint holds, and builds it."""

from ..files.checkpoint import Checkpoint, CheckpointError
from ..models.esrgan import Compact, CompactConfig, RRDBConfig, RRDBNet
from .identify import read_part
from .layout import Part
from .tables import UpscalerConfig, blank, infer, shapes, table

PREFIXES = "params_ema.", "params.", "", "module."  # the moving average is what is meant to be used
PROBES = {  # layouts of each network, and a parameter that only it has
    "RRDBNet": (("first", "later", "real"), "blocks.{n}.{i}.{j}.weight"),
    "Compact": (("real",), "body.{k}.weight"),
}
FIRST = {"n": 0, "i": 0, "j": 0, "r": 1, "c": 1, "k": 0}


def identify_upscaler(checkpoint: Checkpoint) -> tuple[Part, UpscalerConfig]:
    """Where the network is in a checkpoint, and what it is, by names and shapes. Raises CheckpointError."""
    for prefix in PREFIXES:
        for name, (layouts, probe) in PROBES.items():
            for layout in layouts:
                part = Part(name, layout, prefix)
                if shapes(checkpoint, part).has(probe, **FIRST):
                    config = infer(checkpoint, part)
                    assert isinstance(config, RRDBConfig | CompactConfig)
                    _whole(checkpoint, part, config)
                    return part, config
    reason = f"none of its {len(checkpoint.tensors)} tensors belongs to a known upscaler"
    raise CheckpointError(checkpoint.path, reason, remedy="Name one of ESRGAN's family, or one of daguerre")


def read_upscaler(checkpoint: Checkpoint) -> RRDBNet | Compact:
    """The network with its weights, in float32. Raises CheckpointError for what is none, or is not whole."""
    part, config = identify_upscaler(checkpoint)
    network = blank(config)
    state = {key: value.float() for key, value in read_part(checkpoint, part, config).items()}
    network.load_state_dict(state, assign=True)
    assert isinstance(network, RRDBNet | Compact)
    return network.eval().requires_grad_(False)


def _whole(checkpoint: Checkpoint, part: Part, config: UpscalerConfig) -> None:
    """Refuses tensors that no such network has: those of ESRGAN+, for one, would be left out unseen."""
    known = {source.key for source in table(part, config).values()}
    own = (key for key in checkpoint.tensors if key.startswith(part.prefix))
    others = tuple(prefix for prefix in PREFIXES if prefix and prefix != part.prefix)
    if extra := sorted(key for key in own if key not in known and not key.startswith(others)):
        reason = f"no part of a {part.name} as known here, which has {len(known)} tensors"
        raise CheckpointError(checkpoint.path, reason, key=extra[0], remedy="Name another upscaler")
