"""LoRAs made of models and of other LoRAs: cut to a rank, taken from the difference of two models, added up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..families.model import Model
from .change import AdapterError, Additive, Change, layers_of
from .lora import Factors, LoRA


def resize(lora: LoRA, *, rank: int | None = None, energy: float | None = None) -> LoRA:
    """The best approximation of each layer's change by fewer ranks (Eckart-Young).

    `rank` is the most that a layer keeps, `energy` the share of its squared singular values, in (0, 1]; with both,
    the smaller counts. A DoRA's magnitudes stay. A LoHa, a LoKr or a difference becomes a LoRA, so that tools which
    know no other kind can read it. Raises AdapterError for numbers out of range, and for what is no matrix to add.
    """
    if rank is None and energy is None:
        raise AdapterError("resize: give a rank or the share of energy that is kept")
    if rank is not None and rank < 1:
        raise AdapterError(f"resize: the rank is {rank}; it is at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise AdapterError(f"resize: the share of energy is {energy}; it is above 0 and at most 1")
    return LoRA({path: _resized(path, one, rank, energy) for path, one in lora.changes.items()}, lora.dropout)


@torch.no_grad()
def extract(base: Model, tuned: Model, rank: int, *, text: bool = True) -> LoRA:
    """A LoRA that turns `base` into `tuned` as far as `rank` allows; layers that do not differ are left out.

    Norms and biases cannot be expressed and stay the base's. Raises AdapterError for models of two kinds, or if
    nothing differs.
    """
    if rank < 1:
        raise AdapterError(f"extract: the rank is {rank}; it is at least 1")
    ours, theirs, found = layers_of(base, text=text), layers_of(tuned, text=text), {}
    for path, layer in ours.items():
        shape = list(layer.weight.shape)
        other = list(theirs[path].weight.shape) if path in theirs else None
        if other != shape:
            raise AdapterError(f"extract: {path!r} is {shape} in the base and {other} in the tuned model")
        difference = theirs[path].weight.float() - layer.weight.float()
        if difference.any():
            left, values, right = torch.linalg.svd(difference.flatten(1), full_matrices=False)
            found[path] = _factors(left, values, right, min(rank, len(values)), difference.shape)
    if not found:
        raise AdapterError("extract: no layer of the two models differs")
    return LoRA(found)


@torch.no_grad()
def combine(weighted: Sequence[tuple[LoRA, float]], rank: int | None = None) -> LoRA:
    """One LoRA whose change is the weighted sum of the others': exact, its ranks added up, unless `rank` cuts it.

    Raises AdapterError for DoRAs, whose changes do not add up, and for layers of different shapes.
    """
    found: dict[str, Factors] = {}
    for lora, weight in weighted:
        for path, one in lora.changes.items():
            if not isinstance(one, Factors):
                raise AdapterError(f"combine: {path!r} is a {type(one).__name__}; resize it to a LoRA first")
            if one.magnitude is not None:
                raise AdapterError(f"combine: {path!r} is a DoRA's, which cannot be added up; merge it into a model")
            there = found.get(path)
            if there is not None and there.shape != one.shape:
                raise AdapterError(
                    f"combine: {path!r} is {list(there.shape)} in one LoRA and {list(one.shape)} in another"
                )
            down, up = one.down.float(), one.up.float() * (weight * one.strength)
            if there is not None:
                down, up = torch.cat([there.down, down]), torch.cat([there.up, up], dim=1)
            found[path] = Factors(down.clone(), up.clone())
    if not found:
        raise AdapterError("combine: there is nothing to combine")
    return LoRA(found) if rank is None else resize(LoRA(found), rank=rank)


@torch.no_grad()
def _resized(path: str, one: Change, rank: int | None, energy: float | None) -> Factors:
    if isinstance(one, Factors):
        up, down = one.up.float().flatten(1), one.down.float().flatten(1)
        left, small_left = torch.linalg.qr(up)  # so that only a matrix of the rank's size is decomposed
        right, small_right = torch.linalg.qr(down.T)
        u, values, v = torch.linalg.svd(one.strength * small_left @ small_right.T, full_matrices=False)
        u, v, shape, lengths = left @ u, v @ right.T, one.shape, one.magnitude
    elif isinstance(one, Additive) and one.bias_delta(None) is None and len(one.shape) in (2, 4):
        u, values, v = torch.linalg.svd(one.product().flatten(1), full_matrices=False)
        shape, lengths = one.shape, one.magnitude
    else:
        raise AdapterError(f"resize: {path!r} is changed by more than a matrix of low rank; merge it into a model")
    kept = len(values) if rank is None else min(rank, len(values))
    if energy is not None:
        shares = values.square().cumsum(0) / values.square().sum().clamp(min=torch.finfo(values.dtype).tiny)
        kept = min(kept, int((shares < energy - 1e-6).sum()) + 1)
    made = _factors(u, values, v, kept, shape)
    return Factors(made.down.data, made.up.data, None, None if lengths is None else lengths.detach().clone())


def _factors(left: Tensor, values: Tensor, right: Tensor, rank: int, shape: Sequence[int]) -> Factors:
    """Of a singular value decomposition, its values shared between both."""
    root = values[:rank].sqrt()
    up = (left[:, :rank] * root).reshape(shape[0], rank, *[1] * (len(shape) - 2))
    return Factors((root[:, None] * right[:rank]).reshape(rank, *shape[1:]), up.contiguous())
