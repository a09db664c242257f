"""LoRAs made of models and of other LoRAs, cut to a rank, taken from two models' difference, added up; and models made
of LoRAs. Of models, one tensor after another is read."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..checkpoints.merge import Components, Opened, finite
from ..checkpoints.tables import blank
from ..files.safetensors_writer import Deferred
from .change import AdapterError, Additive, Change, Layer
from .lora import Factors, LoRA, scale_of
from .low_rank import leading


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
def extract(base: Opened, tuned: Opened, rank: int, *, text: bool = True) -> LoRA:
    """A LoRA that turns `base` into `tuned` as far as `rank` allows; layers that do not differ are left out.

    One layer is read at a time, so that two files of any size need the memory of a few tensors and of the LoRA. Norms
    and biases cannot be expressed and stay the base's. Raises AdapterError for models of two kinds, or if nothing
    differs.
    """
    if rank < 1:
        raise AdapterError(f"extract: the rank is {rank}; it is at least 1")
    ours, theirs = layer_weights(base, text=text), layer_weights(tuned, text=text)
    for path, own in ours.items():
        other = list(theirs[path].shape) if path in theirs else "missing"
        if other != list(own.shape):
            raise AdapterError(f"extract: {path!r} is {list(own.shape)} in the base and {other} in the tuned model")
    found = {}
    for path, own in ours.items():
        difference = theirs[path].make().float() - own.make().float()
        if not torch.isfinite(difference).all():
            raise AdapterError(f"extract: {path!r} holds numbers that are not finite in one of the models")
        if difference.any():
            found[path] = _factors(*leading(difference.flatten(1), rank), difference.shape)
    if not found:
        raise AdapterError("extract: no layer of the two models differs")
    return LoRA(found)


def layer_weights(model: Opened, *, text: bool = True) -> dict[str, Deferred]:
    """The weight of every layer that can be adapted, by native path, read when it is needed."""
    found = {}
    for part, state in model.components().items():
        if part == "unet" or (text and part.startswith("text")):
            for path, module in blank(model.identity.configs[part]).named_modules():
                if isinstance(module, Layer):
                    found[f"{part}.{path}"] = state[f"{path}.weight"]
    return found


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


def merged(model: Opened, loras: Sequence[tuple[LoRA, float, float | None]]) -> Components:
    """The networks of a model with LoRAs built in, each with its weight and that in the text encoders, for the writer.

    Nothing is read before it is written. What no longer fits the model's number format raises MergeError then.
    """
    components, gains = model.components(), dict[str, list[tuple[Change, float]]]()
    for lora, scale, text_scale in loras:
        for path, change in lora.changes.items():
            gains.setdefault(path, []).append((change, scale_of(path, scale, text_scale)))
    for path, changes in gains.items():
        part, _, layer = path.partition(".")
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if own := components[part].get(name):
                make = partial(_grown, f"{part}.{name}", own, changes)
                components[part][name] = Deferred(own.shape, own.dtype, make)
    return components


@torch.no_grad()
def _grown(name: str, own: Deferred, changes: Sequence[tuple[Change, float]]) -> Tensor:
    value = own.make()
    after = before = value.float()
    for one, scale in changes:
        gain = one.delta(before) if name.endswith(".weight") else one.bias_delta(before)
        if gain is not None:
            after = after.add(gain, alpha=scale)
    return finite(name, after.to(value.dtype))


@torch.no_grad()
def _resized(path: str, one: Change, rank: int | None, energy: float | None) -> Factors:
    if isinstance(one, Factors):
        up, down = one.up.float().flatten(1), one.down.float().flatten(1)
        left, small_left = torch.linalg.qr(up)  # so that only a matrix of the rank's size is decomposed
        right, small_right = torch.linalg.qr(down.T)
        u, values, v = torch.linalg.svd(one.strength * small_left @ small_right.T, full_matrices=False)
        u, v, shape, lengths = left @ u, v @ right.T, one.shape, one.magnitude
    elif isinstance(one, Additive) and one.bias_delta(None) is None and len(one.shape) in (2, 4):
        whole, shape, lengths = one.product().flatten(1), one.shape, one.magnitude
        u, values, v = leading(whole, min(whole.shape) if rank is None or energy is not None else rank)
    else:
        raise AdapterError(f"resize: {path!r} is changed by more than a matrix of low rank; merge it into a model")
    kept = len(values) if rank is None else min(rank, len(values))
    if energy is not None:
        shares = values.square().cumsum(0) / values.square().sum().clamp(min=torch.finfo(values.dtype).tiny)
        kept = min(kept, int((shares < energy - 1e-6).sum()) + 1)
    made = _factors(u[:, :kept], values[:kept], v[:kept], shape)
    return Factors(made.down.data, made.up.data, None, None if lengths is None else lengths.detach().clone())


def _factors(left: Tensor, values: Tensor, right: Tensor, shape: Sequence[int]) -> Factors:
    """Of a singular value decomposition, its values shared between both."""
    root, rank = values.sqrt(), len(values)
    up = (left * root).reshape(shape[0], rank, *[1] * (len(shape) - 2))
    return Factors((root[:, None] * right).reshape(rank, *shape[1:]), up.contiguous())
