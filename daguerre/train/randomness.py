"""Randomness as a function of (seed, step, sample), so that a resumed run and an unbroken run draw the same numbers."""

import hashlib

import torch


def generator(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place of a run, for example `generator(seed, "noise", step)`."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)
