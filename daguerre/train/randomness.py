"""Randomness as a function of (seed, step, place in the batch): a resumed run, a batch cut into micro-batches and one
spread over processes draw the same numbers as an unbroken run in one piece."""

import hashlib

import torch
from torch import Tensor


def generator(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place of a run, for example `generator(seed, "noise", step)`."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)


def normal(seed: int, what: str, step: int, part: range, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (len(part), *shape), each picture's from a generator of its own, on the CPU."""
    return torch.stack([torch.randn(shape, generator=generator(seed, what, step, i)) for i in part])


def uniform(seed: int, what: str, step: int, part: range) -> Tensor:
    """Numbers in [0, 1), one per picture: (len(part),)."""
    return torch.stack([torch.rand((), generator=generator(seed, what, step, i)) for i in part])
