"""The two ends of a key table: where a network is in a file, and where each of its parameters comes from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError

Reshape = Literal["same", "squeeze_1x1", "transpose", "split_q", "split_k", "split_v"]
THIRD = {"split_q": 0, "split_k": 1, "split_v": 2}  # of one matrix that holds all three projections
MOST = 128  # blocks of one kind; no real model comes near, and a file must not make us build without end


class Rule(NamedTuple):
    """Where a layout has a native module or parameter; `{}` fields, in both, are numbers of levels and blocks."""

    path: str
    reshape: Reshape = "same"


Row = tuple[str, ...]  # a native name, then that in each layout; the last one is also that of the layouts after it
Rules = Mapping[str, Rule]  # by native module or parameter


def rules(column: int, *tables: tuple[Iterable[Row], Iterable[Row], Reshape]) -> dict[str, Rule]:
    """Of each table, every row at every place, in the layout of this column."""
    found = {}
    for places, rows, reshape in tables:
        for place, row in product(places, rows):
            path = f"{place[: column + 1][-1]}.{row[: column + 1][-1]}".rstrip(".")
            found[f"{place[0]}.{row[0]}".rstrip(".")] = Rule(path, reshape)
    return found


def rule_of(rules: Rules, name: str) -> Rule:
    """A parameter's own rule, or its module's with the parameter's last name."""
    if name in rules:
        return rules[name]
    module, leaf = name.rsplit(".", 1)
    return Rule(f"{rules[module].path}.{leaf}", rules[module].reshape)


class Source(NamedTuple):
    """What a native parameter is made of."""

    key: str
    shape: tuple[int, ...]  # native
    reshape: Reshape

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Linear layers where the layout has 1x1 convolutions: both are about."""
        return shape == self.stored or (self.reshape == "squeeze_1x1" and shape == self.shape)

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
        joined = torch.cat(native) if len(native) > 1 else native[0]
        return (joined.T if self.reshape == "transpose" else joined.reshape(self.stored)).contiguous()


@dataclass(frozen=True, slots=True)
class Part:
    """Where one network is in a checkpoint."""

    name: str  # unet, vae, text, text2
    layout: str  # a column of its key table
    prefix: str = ""
    flat: bool = False  # moving averages, whose names leave out the dots

    def key(self, path: str) -> str:
        return self.prefix + (path.replace(".", "") if self.flat else path)


@dataclass(frozen=True)
class Shapes:
    """The shapes of one network's tensors, by native names whose `{}` fields are given beside them."""

    checkpoint: Checkpoint
    part: Part
    rules: Rules

    def key(self, name: str, numbers: Mapping[str, int]) -> str:
        return self.part.key(rule_of(self.rules, name).path.format_map(numbers))

    def has(self, name: str, **numbers: int) -> bool:
        return self.key(name, numbers) in self.checkpoint.tensors

    def find(self, name: str, *dims: int, **numbers: int) -> tuple[int, ...]:
        key = self.key(name, numbers)
        info, expected = self.checkpoint.tensors.get(key), " or ".join(map(str, dims))
        if info and len(info.shape) in dims and 0 not in info.shape:
            return info.shape
        fault = (
            f"should have {expected} dimensions, none of them 0, and is {list(info.shape)}" if info else "is missing"
        )
        reason = f"this tensor, which tells what kind of {self.part.name} it is, {fault}"
        raise CheckpointError(self.checkpoint.path, reason, key=key, remedy="Get the whole file again")

    def count(self, name: str, nth: Callable[[int], Mapping[str, int]], **numbers: int) -> int:
        """How many of these tensors there are one after the other; `nth`: the `{}` fields of one of them, from 0."""
        n = 0
        while self.has(name, **numbers, **nth(n)):
            n += 1
            if n > MOST:
                raise CheckpointError(self.checkpoint.path, f"more than {MOST} blocks", key=self.key(name, nth(0)))
        return n

    def expect(self, tensors: int) -> None:
        """Refuses a structure that needs more tensors than there are, before a network is built from it."""
        there = len(self.checkpoint.tensors)
        if tensors > there:
            reason = f"a {self.part.name} like this has at least {tensors:,} tensors; {there:,} are there"
            raise CheckpointError(self.checkpoint.path, reason, key=self.part.prefix, remedy="Get the whole file again")
