"""One model of several: checked for being of a kind, mixed tensor by tensor, with a record of how.

Nothing is read before it is written, so that two files of any size need the memory of a few tensors.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from ..files.safetensors_writer import Deferred
from ..models.unet import UNetConfig
from .identify import Identity, deferred_component, identify
from .mixing import Mix, add_difference, dare, slerp, ties, weighted_sum

Method = Literal["weighted", "difference", "slerp", "ties", "dare"]
MODELS: Mapping[Method, tuple[int, int]] = {  # how many models each takes: at least, at most
    "weighted": (2, 2), "difference": (3, 3), "slerp": (2, 2), "ties": (2, 16), "dare": (2, 16),
}  # fmt: skip
BY_NUMBER: Sequence[Method] = ("weighted", "difference")  # each depends on its like in the other models alone
BAND = 1 << 23  # of these so many are mixed at once, so that no large tensor is there in float32
Components = dict[str, dict[str, Deferred]]  # by part, native parameter -> values


class MergeError(ValueError):
    """Settings that make no merge; the message names the setting and what it may be."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How models become one.

    weighted: (1 - ratio) A + ratio B. difference: A + ratio (B - C). slerp: from A to B along an arc. ties, dare:
    what B, C, ... learned since A, `density` of it. `blocks` gives parts of the U-Net a ratio of their own, by the
    names of A1111's merge-block-weighted: BASE (all but the U-Net), IN00 to IN11, M00, OUT00 to OUT11.
    """

    method: Method = "weighted"
    ratio: float = 0.5
    blocks: Mapping[str, float] = field(default_factory=dict)
    density: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in {"ratio": self.ratio, **self.blocks}.items():
            if not -10 <= value <= 10:
                raise MergeError(f"merge: {name} is {value}; it is a number from -10 to 10, most often from 0 to 1")
        if not 0 < self.density <= 1:
            raise MergeError(f"merge: density is {self.density}; it is above 0 and at most 1")

    def mix(self, name: str, a: Tensor, others: Sequence[Tensor], ratio: float) -> Tensor:
        """One tensor of all models, float32."""
        plain: dict[str, Mix] = {"weighted": weighted_sum, "difference": add_difference, "slerp": slerp}
        if self.method in plain:
            return plain[self.method](a, others, ratio)
        if self.method == "ties":
            return ties(a, others, ratio, self.density)
        return dare(a, others, ratio, self.density, name, self.seed)


@dataclass(frozen=True)
class Opened:
    """A checkpoint and what it holds."""

    checkpoint: Checkpoint
    identity: Identity

    @classmethod
    def of(cls, path: Path | str, weights: Literal["auto", "ema"] = "auto") -> "Opened":
        """Raises CheckpointError for a file that cannot be used."""
        checkpoint = open_checkpoint(path)
        return cls(checkpoint, identify(checkpoint, weights=weights))

    def components(self) -> Components:
        """Its networks, read when they are written."""
        return {p.name: deferred_component(self.checkpoint, self.identity, p.name) for p in self.identity.parts}


def merge(how: Merge, models: Sequence[Opened]) -> tuple[Components, dict[str, str]]:
    """The networks of the first model, mixed with the others', and metadata with a recipe, for the writer.

    Parts that another model lacks, such as a VAE, stay the first's. An inpainting model may come first: the input
    channels that the others lack stay as they are. Raises MergeError, and CheckpointError for models of two kinds.
    """
    least, most = MODELS[how.method]
    if not least <= len(models) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise MergeError(f"merge: {how.method} takes {wanted} models, and {len(models)} are given")
    first, *others = models
    for other in others:
        check_alike(first, other)
    unknown = how.blocks.keys() - (known := block_names(first.identity.unet))
    if unknown:
        raise MergeError(f"merge: there is no block {sorted(unknown)[0]!r}; the blocks are {', '.join(known)}")
    merged = first.components()
    theirs = [other.components() for other in others]
    for part, state in merged.items():
        if all(part in their for their in theirs):
            for name, own in state.items():
                ratio = how.blocks.get(block_of(first.identity.unet, part, name), how.ratio)
                make = partial(_mixed, how, f"{part}.{name}", own, [their[part][name] for their in theirs], ratio)
                state[name] = Deferred(own.shape, own.dtype, make)
    return merged, noted(how, models)


def _mixed(how: Merge, name: str, own: Deferred, others: Sequence[Deferred], ratio: float) -> Tensor:
    a, values = own.make(), [other.make() for other in others]
    given = values[0].shape[1] if values[0].shape != a.shape else None  # of the inpainting model's inputs
    part = a[:, :given] if given else a
    if how.method in BY_NUMBER:
        bands = [torch.split(one.reshape(-1), BAND) for one in (part, *values)]
        rows = [_mixed_now(how, name, own.dtype, band, ratio) for band in zip(*bands, strict=True)]
        mixed = torch.cat(rows).reshape(part.shape)
    else:
        mixed = _mixed_now(how, name, own.dtype, (part, *values), ratio)
    return torch.cat([mixed, a[:, given:]], dim=1) if given else mixed


def _mixed_now(how: Merge, name: str, dtype: torch.dtype, values: Sequence[Tensor], ratio: float) -> Tensor:
    a, *others = (value.float() for value in values)
    return finite(name, how.mix(name, a, others, ratio).to(dtype))


def finite(name: str, value: Tensor) -> Tensor:
    """The tensor itself. Raises MergeError if it holds NaN or infinity."""
    if not torch.isfinite(value if value.dtype.itemsize > 1 else value.float()).all():  # of 8 bits there is no test
        kind = str(value.dtype).removeprefix("torch.")
        raise MergeError(f"{name!r}: numbers are not finite in {kind}; nothing was written. Take bfloat16 or float32")
    return value


def check_alike(first: Opened, other: Opened) -> None:
    """Raises CheckpointError, naming both, for models that are built or were trained in different ways."""
    ours, theirs = first.identity, other.identity
    for part, config in ours.configs.items():
        their = theirs.configs.get(part)
        if isinstance(config, UNetConfig) and isinstance(their, UNetConfig) and config.channels_in > their.channels_in:
            their = replace(their, channels_in=config.channels_in)  # an inpainting or editing model comes first
        if their is not None and their != config:
            raise _differ(first, other, f"its {part} is another")
    if ours.unet is None or theirs.unet is None:
        if not ours.configs.keys() & theirs.configs.keys():
            raise _differ(first, other, "they have no network in common")
    elif ours.prediction != theirs.prediction:
        raise _differ(first, other, f"it predicts {theirs.prediction} and the other {ours.prediction}")


def _differ(first: Opened, other: Opened, why: str) -> CheckpointError:
    reason = (
        f"a {other.identity.family} model cannot be merged with the {first.identity.family} model "
        f"{first.checkpoint.path}: {why}"
    )
    remedy = "Name models of one family; an inpainting model comes first"
    return CheckpointError(other.checkpoint.path, reason, remedy=remedy)


def block_names(unet: UNetConfig | None) -> tuple[str, ...]:
    """BASE, then the U-Net's: 25 of SD 1.x and 2.x, 19 of SDXL."""
    count = len(unet.channels) * (unet.blocks + 1) if unet else 0
    numbered = [[f"{side}{n:02}" for n in range(count)] for side in ("IN", "OUT")]
    return ("BASE", *numbered[0], *(("M00",) if unet else ()), *numbered[1])


def block_of(unet: UNetConfig | None, part: str, name: str) -> str:
    """The block of a native parameter. What is before the first block counts to it, what is after the last, too."""
    names = block_names(unet)
    if part != "unet":
        return names[0]
    found = re.match(r"(encoder|decoder)\.(\d+)\.", name)
    if found:
        return f"{'IN' if found[1] == 'encoder' else 'OUT'}{int(found[2]):02}"
    return "M00" if name.startswith("mid_") else names[-1] if "out" in name.partition(".")[0] else names[1]


def parse_blocks(text: str, unet: UNetConfig | None) -> dict[str, float]:
    """Ratios from "IN04=0.3,OUT05=1", or from all numbers in order, with or without BASE. Raises MergeError."""
    names, pieces = block_names(unet), [piece.strip() for piece in text.split(",") if piece.strip()]
    try:
        if all("=" in piece for piece in pieces):
            return {name.strip().upper(): float(value) for name, _, value in (p.partition("=") for p in pieces)}
        numbers = [float(piece) for piece in pieces]
    except ValueError:
        raise MergeError(f"merge: blocks are {text!r:.80}; write IN04=0.3,OUT05=1 or all numbers") from None
    if len(numbers) not in (len(names), len(names) - 1):
        raise MergeError(
            f"merge: {len(numbers)} numbers for blocks; this model has {len(names) - 1}, or with BASE one more"
        )
    return dict(zip(names[-len(numbers) :], numbers, strict=True))


def noted(how: Merge, models: Sequence[Opened]) -> dict[str, str]:
    """The first model's metadata with the recipe, under the names that A1111 gave them."""
    recipe = {
        "type": "daguerre", "interp_method": how.method, "multiplier": how.ratio, "blocks": dict(how.blocks),
        "density": how.density if how.method in ("ties", "dare") else None,
        "seed": how.seed if how.method == "dare" else None,
        "models": [one.checkpoint.sha256 for one in models],
    }  # fmt: skip
    parents = {}
    for one in models:
        older = one.checkpoint.metadata.get("sd_merge_recipe")
        parents[one.checkpoint.sha256] = {"name": one.checkpoint.name, "sd_merge_recipe": older}
    kept = {k: v for k, v in models[0].checkpoint.metadata.items() if "hash" not in k and not k.startswith("daguerre")}
    return {**kept, "sd_merge_recipe": json.dumps(recipe), "sd_merge_models": json.dumps(parents)}
