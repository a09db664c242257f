"""Other numbers, another VAE: what is done to a whole model's networks while they are written."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..files.checkpoint import CheckpointError
from ..files.safetensors_writer import Deferred
from ..models.unet import UNetConfig
from ..models.vae import SDXL, VAEConfig
from .identify import Description
from .merge import Components, Opened, finite

Number = Literal["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def converted(components: Components, number: Number) -> Components:
    """The same networks in another number format; MergeError, when it is written, for numbers that it cannot hold.

    In eight bits only matrices and convolutions of U-Net and text encoders are stored; norms, biases, embeddings and
    the VAE, which eight bits would spoil, are float16 then.
    """
    wanted: torch.dtype = getattr(torch, number)
    return {
        part: {name: _cast(part, name, one, wanted) for name, one in state.items()}
        for part, state in components.items()
    }


def _cast(part: str, name: str, one: Deferred, wanted: torch.dtype) -> Deferred:
    small = wanted.itemsize == 1
    embedding = name in ("token.weight", "position.weight")
    dtype = torch.float16 if small and (len(one.shape) < 2 or part == "vae" or embedding) else wanted
    return Deferred(one.shape, dtype, partial(_values, f"{part}.{name}", one, dtype))


def _values(name: str, one: Deferred, dtype: torch.dtype) -> Tensor:
    value = one.make()
    return finite(name, value.to(dtype)) if dtype != value.dtype else value


def with_vae(model: Opened, components: Components, vae: Opened) -> tuple[Components, Description]:
    """The networks with another model's VAE, and their description. Raises CheckpointError where it does not fit."""
    config = vae.identity.vae
    if config is None:
        raise CheckpointError(vae.checkpoint.path, "there is no VAE in it", remedy="Name another VAE")
    own, unet = model.identity.vae, model.identity.unet
    channels = _channels(own, unet)
    if channels is not None and config.latent_channels != channels:
        reason = f"its VAE has latents of {config.latent_channels} channels; {model.checkpoint.path} takes {channels}"
        raise CheckpointError(vae.checkpoint.path, reason, remedy="Name a VAE of the model's family")
    # The U-Net was trained on latents of one scale; a lone VAE file does not tell it.
    scale = own.scale if own else SDXL.scale if unet and unet.vector else config.scale
    state: Mapping[str, Deferred] = vae.components()["vae"]
    return {**components, "vae": dict(state)}, replace(_described(model), vae=replace(config, scale=scale))


def _channels(own: VAEConfig | None, unet: UNetConfig | None) -> int | None:
    return own.latent_channels if own else unet.channels_out if unet else None


def _described(model: Opened) -> Description:
    one = model.identity
    return Description(
        family=one.family,
        prediction=one.prediction,
        zero_snr=one.zero_snr,
        unet=one.unet,
        vae=one.vae,
        text=one.text,
        unused_layers=one.unused_layers,
    )
