"""From a checkpoint to a Model: identify, build, fill, choose device and number format."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ..checkpoints.checkpoint import Checkpoint, CheckpointError
from ..checkpoints.identify import Identity, identify
from ..checkpoints.reader import open_checkpoint, read_component
from ..diffusion.schedule import scaled_linear
from ..models.clip import CLIPText
from ..models.unet import UNet
from ..models.vae import VAE
from ..request import RequestError
from ..runtime.device import pick_device
from ..runtime.precision import pick_dtype
from .catalog import FAMILIES
from .model import Model, Prediction

Weights = Literal["auto", "ema"]


def load_model(
    path: Path | str,
    *,
    name: str | None = None,
    vae: Path | str | None = None,
    family: str | None = None,
    prediction: Prediction | None = None,
    device: str | None = None,
    dtype: str | None = None,
    low_memory: bool = False,
    weights: Weights = "auto",
) -> Model:
    """A model from a single file or a diffusers folder, ready to draw.

    `name` is what records call it; the file's own name by default. `family` and `prediction` override what the
    checkpoint shows: SDXL Turbo, for one, looks like SDXL. `vae` names a file or folder whose VAE is used instead. In
    low-memory mode weights are read when a network is used and dropped afterwards. Raises CheckpointError for a file
    that cannot be used, RequestError for a wrong choice.
    """
    checkpoint = open_checkpoint(path)
    identity = identify(checkpoint, weights=weights)
    row = FAMILIES.get(family or identity.family)
    if family and row is None:
        raise RequestError(f"unknown family {family!r}; the families are {', '.join(FAMILIES)}")
    vae_checkpoint = open_checkpoint(vae) if vae else checkpoint
    vae_identity = identify(vae_checkpoint) if vae else identity
    if identity.unet is None or not identity.text or vae_identity.vae is None or row is None:
        what = "; ".join(identity.notes) or f"it is a lone {identity.family}"
        raise CheckpointError(checkpoint.path, f"this is not a whole model: {what}", remedy="Name a whole model")
    if len(row.encodings) != len(identity.text):
        reason = f"family {row.name!r} has {len(row.encodings)} text encoders and this file {len(identity.text)}"
        raise CheckpointError(checkpoint.path, reason, remedy="Leave out --family")
    skipped = (replace(e, skip=e.skip + identity.unused_layers) for e in row.encodings)
    where = pick_device(device)
    number = pick_dtype(where, dtype)
    sources = {
        "unet": (checkpoint, identity),
        "text": (checkpoint, identity),
        "text2": (checkpoint, identity),
    }
    sources["vae"] = vae_checkpoint, vae_identity
    fill = {part: partial(_fill, source, part, number) for part, source in sources.items()}
    with torch.device("meta"):
        unet, decoder = UNet(identity.unet), VAE(vae_identity.vae)
        text = tuple(CLIPText(config) for config in identity.text)
    model = Model(
        family=replace(row, encodings=tuple(skipped)),
        unet=unet,
        vae=decoder,
        text=text,
        prediction=prediction or identity.prediction,
        name=name or (checkpoint.path.stem if checkpoint.path.is_file() else checkpoint.path.name),
        sha256=checkpoint.sha256,
        vae_name=vae_checkpoint.path.stem if vae else "",
        vae_sha256=vae_checkpoint.sha256 if vae else "",
        levels=scaled_linear().zero_terminal() if identity.zero_snr else scaled_linear(),
        device=where,
        low_memory=low_memory,
        reload=fill,
    )
    for part, module in model.parts.items():
        module.eval().requires_grad_(requires_grad=False)
        if not low_memory:
            fill[part](module)
            module.to(where)
    return model


def _fill(source: tuple[Checkpoint, Identity], part: str, dtype: torch.dtype, module: nn.Module) -> None:
    """Gives a network its weights: the memory-mapped ones themselves where the file has the wanted number format."""
    state = read_component(*source, part)
    module.load_state_dict({k: v.to(dtype) for k, v in state.items()}, assign=True)
    module.requires_grad_(requires_grad=False)
