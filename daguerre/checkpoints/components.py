"""Takes single networks out of a checkpoint."""

import torch
from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError
from .identify import Identity
from .tables import table

FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64


def read_component(checkpoint: Checkpoint, identity: Identity, name: str) -> dict[str, Tensor]:
    """The native state dict of the part `unet`, `vae`, `text` or `text2`: views in the file's own dtype.

    Meant for `module.load_state_dict(..., assign=True)`, which then makes no copy of the weights either.
    """
    part = next((part for part in identity.parts if part.name == name), None)
    if part is None:
        raise CheckpointError(checkpoint.path, f"there is no {name} in it", remedy="Name a file that has one")
    state = {}
    for parameter, source in table(part, identity.configs[name]).items():
        info, fault = checkpoint.tensors.get(source.key), ""
        if info is None:
            fault = "the tensor is missing"
        elif not source.accepts(info.shape):
            fault = f"the shape is {list(info.shape)}"
        elif info.dtype not in FLOATS:
            fault = f"the numbers are of type {str(info.dtype).removeprefix('torch.')}"
        if fault:
            expected = f"expected {list(source.stored)} of float16, bfloat16 or float32"
            remedy = "Get the whole file again, or one that is not quantized"
            raise CheckpointError(checkpoint.path, f"{fault}; {expected}", key=source.key, remedy=remedy)
        state[parameter] = source.to_native(checkpoint.tensor(source.key))
    return state
