"""The two ends of a key table: where a network is in a file, and where each of its parameters comes from."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError

Reshape = Literal["same", "squeeze_1x1", "transpose", "split_q", "split_k", "split_v"]
THIRD = {"split_q": 0, "split_k": 1, "split_v": 2}  # of one matrix that holds all three projections
MOST = 128  # blocks of one kind; no real model comes near, and a file must not make us build without end


class Rule(NamedTuple):
    """One row of a key table: a native module or parameter and its path in a layout; `*`: block index."""

    native: str
    foreign: str
    reshape: Reshape = "same"


class Source(NamedTuple):
    """What a native parameter is made of."""

    key: str
    shape: tuple[int, ...]  # native
    reshape: Reshape

    def accepts(self, shape: tuple[int, ...]) -> bool:
        if self.reshape == "squeeze_1x1" and shape == self.shape:
            return True  # linear layers where the layout has 1x1 convolutions: both are about
        return shape == self.stored

    @property
    def stored(self) -> tuple[int, ...]:
        if self.reshape == "squeeze_1x1":
            return (*self.shape, 1, 1)
        if self.reshape == "transpose":
            return self.shape[::-1]
        return (3 * self.shape[0], *self.shape[1:]) if self.reshape in THIRD else self.shape

    def to_native(self, stored: Tensor) -> Tensor:
        """A view of the stored tensor in the native shape."""
        if self.reshape == "transpose":
            return stored.T
        return stored.chunk(3)[THIRD[self.reshape]] if self.reshape in THIRD else stored.reshape(self.shape)

    def to_stored(self, native: list[Tensor]) -> Tensor:
        """The tensor of the file, of the one or three native parameters that it holds."""
        if self.reshape == "transpose":
            return native[0].T.contiguous()
        joined = torch.cat(native) if len(native) > 1 else native[0]
        return joined.reshape(self.stored).contiguous()


@dataclass(frozen=True, slots=True)
class Part:
    """Where one network is in a checkpoint."""

    name: str  # unet, vae, text, text2
    layout: str  # a column of its key table
    prefix: str = ""
    flat: bool = False  # moving averages, whose names leave out the dots

    def key(self, path: str) -> str:
        return self.prefix + (path.replace(".", "") if self.flat else path)


class Shapes:
    """The shapes of one network's tensors, by their names within the layout."""

    def __init__(self, checkpoint: Checkpoint, part: Part):
        self.checkpoint, self.part = checkpoint, part

    def __contains__(self, path: str) -> bool:
        return self.part.key(path) in self.checkpoint.tensors

    def find(self, path: str, *dims: int) -> tuple[int, ...]:
        key = self.part.key(path)
        info = self.checkpoint.tensors.get(key)
        if info is None:
            reason = f"this tensor, which tells what kind of {self.part.name} it is, is missing"
            raise CheckpointError(self.checkpoint.path, reason, key=key, remedy="Get the whole file again")
        if len(info.shape) not in dims or 0 in info.shape:
            expected = " or ".join(map(str, dims))
            reason = f"the shape should have {expected} dimensions, none of them 0, and is {list(info.shape)}"
            raise CheckpointError(self.checkpoint.path, reason, key=key)
        return info.shape

    def count(self, template: str, start: int = 0) -> int:
        """How many keys there are when `*` in the template counts up from `start`."""
        n = start
        while template.replace("*", str(n)) in self:
            n += 1
            if n - start > MOST:
                where = self.part.key(template)
                raise CheckpointError(self.checkpoint.path, f"more than {MOST} blocks", key=where)
        return n - start

    def expect(self, tensors: int) -> None:
        """Refuses a structure that needs more tensors than there are, before a network is built from it."""
        there = len(self.checkpoint.tensors)
        if tensors > there:
            reason = f"a {self.part.name} like this has at least {tensors:,} tensors; {there:,} are there"
            raise CheckpointError(self.checkpoint.path, reason, key=self.part.prefix, remedy="Get the whole file again")
