"""Low-memory mode: a part of a model is on the device only while it is used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


class WithoutInitialValues(TorchFunctionMode):
    """Modules are built without values; on the meta device, drawing them imports a compiler, which takes seconds."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        initial = getattr(function, "__module__", "") == "torch.nn.init"
        return None if initial else function(*args, **(kwargs or {}))


@contextmanager
def resident(
    module: M, device: torch.device, *, leave: bool = False, reload: Callable[[M], object] | None = None
) -> Iterator[M]:
    """`module` on `device` for the body; with `leave` it goes away again afterwards.

    A module that leaves goes to main memory; where that saves nothing (`device` is the CPU) it is freed.
    `reload(module)` reads the weights of a freed module back when it is used again, such as
    `lambda m: m.load_state_dict(read(...), assign=True)`; without it a second use raises RuntimeError.
    """
    if any(p.is_meta for p in module.parameters()):
        if reload is None:
            name = type(module).__name__
            raise RuntimeError(f"the {name} was freed to save memory; load the model again to use it")
        reload(module)
    module.to(device)
    try:
        yield module
    finally:
        if leave and device.type == "cpu":
            free(module)
        elif leave:
            module.to("cpu")
            getattr(torch, device.type).empty_cache()  # else the allocator keeps the room


def free(module: nn.Module) -> None:
    """Gives back the memory of the weights; buffers stay, because no file holds them."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(parameter.to("meta"), parameter.requires_grad))
