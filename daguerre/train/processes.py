"""Several processes that train one model together."""

import torch.distributed as dist
from torch import Tensor


def _sharded(tensor: Tensor) -> bool:
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor  # here, because it takes half a second

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together on the CPU of the first process, any other as it is. All processes must call.

    The others get an empty one on the meta device, so that no machine holds the model once per process.
    """
    if not _sharded(tensor):
        return tensor
    full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return full.to("cpu" if dist.get_rank() == 0 else "meta")


def fill(tensor: Tensor, values: Tensor) -> Tensor:
    """Writes `values`, a whole tensor in every process, into one that may be sharded, and returns that."""
    if _sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    return tensor.copy_(values)
