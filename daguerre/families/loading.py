"""From a checkpoint to a Model: identify, build, fill, choose device and number format."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from ..checkpoints.identify import Identity, deferred_component, identify
from ..checkpoints.tables import blank
from ..diffusion.schedule import scaled_linear
from ..files.built_in import built_in
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from ..models.vae import SDXL
from ..request import RequestError
from ..runtime.device import pick_device
from ..runtime.precision import pick_dtype
from .catalog import FAMILIES, Family
from .model import Model, Prediction

Weights = Literal["auto", "ema"]


def load_model(
    path: Path | str | None = None,
    *,
    name: str | None = None,
    vae: Path | str | None = None,
    base: Path | str | None = None,
    family: str | None = None,
    prediction: Prediction | None = None,
    device: str | None = None,
    dtype: str | None = None,
    low_memory: bool = False,
    weights: Weights = "auto",
) -> Model:
    """A model from a single file or a diffusers folder, by default the built-in one, ready to draw.

    `name` is what records call it; the file's own name by default. `family` and `prediction` override what the
    checkpoint shows: SDXL Turbo, for one, looks like SDXL. `vae` names a file or folder whose VAE is used instead, and
    `base` a whole model that lends what a lone U-Net, such as most GGUF files hold, lacks. In low-memory mode weights
    are read when a network is used and dropped afterwards. Raises CheckpointError for a file that cannot be used,
    RequestError for a wrong choice.
    """
    own = _open(path or built_in(), weights)
    lent = _open(base) if base else own
    source = own._replace(identity=_completed(own, lent))
    held = {part.name for part in own.identity.parts}
    vae_source = _open(vae) if vae else own if "vae" in held else lent
    configs = _configs(source, vae_source)
    number = pick_dtype(where := pick_device(device), dtype)
    networks: dict[str, Any] = {part: blank(config).eval().requires_grad_(False) for part, config in configs.items()}
    model = Model(
        family=_family(source, family),
        unet=networks["unet"],
        vae=networks["vae"],
        text=tuple(networks[part] for part in ("text", "text2") if part in networks),
        prediction=prediction or source.identity.prediction,
        name=name or source.checkpoint.name,
        sha256=source.checkpoint.sha256,
        vae_name=vae_source.checkpoint.name if vae_source is not own else "",
        vae_sha256=vae_source.checkpoint.sha256 if vae_source is not own else "",
        levels=scaled_linear().zero_terminal() if source.identity.zero_snr else scaled_linear(),
        device=where,
        low_memory=low_memory,
        reload={
            part: partial(_fill, vae_source if part == "vae" else own if part in held else lent, part, number)
            for part in configs
        },
    )
    if not low_memory:
        for part, network in networks.items():
            model.reload[part](network)
            network.to(where)
    return model


def most_clip_skip(path: Path | str, *, base: Path | str | None = None, family: str | None = None) -> int | None:
    """The largest clip skip that a checkpoint's text encoders have layers for; None where they take no heed of it.

    Raises as `load_model`.
    """
    own = _open(path)
    source = own._replace(identity=_completed(own, _open(base) if base else own))
    read = zip(_family(source, family).encodings, source.identity.text, strict=True)
    return min((text.layers - encoding.skip + 1 for encoding, text in read if not encoding.fixed), default=None)


class _Source(NamedTuple):
    checkpoint: Checkpoint
    identity: Identity


def _open(path: Path | str, weights: Weights = "auto") -> _Source:
    checkpoint = open_checkpoint(path)
    return _Source(checkpoint, identify(checkpoint, weights=weights))


def _completed(own: _Source, lent: _Source) -> Identity:
    """The first's identity with text encoders and VAE of the second, where it has none."""
    one, other = own.identity, lent.identity
    if own is lent:
        return one
    ours, theirs = one.unet, other.unet
    if ours and theirs:  # what shapes do not show is the base's; an inpainting network may borrow from a plain one
        ours = replace(ours, heads=theirs.heads, head_width=theirs.head_width, groups=theirs.groups)
        theirs = replace(theirs, channels_in=ours.channels_in)
    if ours is None or ours != theirs:
        reason = f"its {one.family} network cannot borrow from the {other.family} model {lent.checkpoint.path}"
        raise CheckpointError(own.checkpoint.path, reason, remedy="Name a base of the same family")
    one = replace(one, unet=ours)
    if one.text:
        return replace(one, vae=one.vae or other.vae)
    return replace(one, vae=one.vae or other.vae, text=other.text, unused_layers=other.unused_layers)


def _configs(source: _Source, vae_source: _Source) -> dict[str, Any]:
    """By part; raises CheckpointError where one is missing."""
    own, vae = source.identity, vae_source.identity.vae
    if vae is None and vae_source.checkpoint is not source.checkpoint:
        raise CheckpointError(vae_source.checkpoint.path, "there is no VAE in it", remedy="Name another VAE")
    if own.unet is None or vae is None or not own.text:
        found = {"U-Net": own.unet, "VAE": vae, "text encoder": own.text}
        lacking = " and no ".join(part for part, config in found.items() if not config)
        raise CheckpointError(
            source.checkpoint.path,
            f"not a whole model: it has no {lacking}",
            remedy="Name a whole one, or with --base one of its family that lends the rest",
        )
    # The U-Net was trained on latents of one scale; a lone VAE file does not tell it.
    scale = own.vae.scale if own.vae else SDXL.scale if own.unet.vector else vae.scale
    return {**own.configs, "vae": replace(vae, scale=scale)}


def _family(source: _Source, name: str | None) -> Family:
    """The catalog's row, with the text encoder's unused layers skipped."""
    identity, row = source.identity, FAMILIES.get(name or source.identity.family)
    if row is None and name:
        raise RequestError(f"unknown family {name!r}; the families are {', '.join(FAMILIES)}")
    if row is None:
        reason = f"no known way to draw with a model of family {identity.family!r}"
        raise CheckpointError(source.checkpoint.path, reason, remedy=f"Name one of {', '.join(FAMILIES)} with --family")
    if len(row.encodings) != len(identity.text):
        reason = f"family {row.name!r} has {len(row.encodings)} text encoders and this file {len(identity.text)}"
        raise CheckpointError(source.checkpoint.path, reason, remedy="Leave out --family")
    return replace(row, encodings=tuple(replace(e, skip=e.skip + identity.unused_layers) for e in row.encodings))


def _fill(source: _Source, part: str, dtype: torch.dtype, module: nn.Module) -> None:
    """Gives a network its weights: the memory-mapped ones themselves where the file has the wanted number format."""
    state = deferred_component(*source, part)
    module.load_state_dict({k: one.make().to(dtype) for k, one in state.items()}, assign=True)
