"""Where a run starts from: a model in float32, whole, with nothing that learns yet; and wider versions of it."""

from dataclasses import replace
from pathlib import Path

import torch

from ..families.catalog import FAMILIES
from ..families.loading import load_model
from ..families.model import Model
from ..files.built_in import BUILT_IN
from ..models.unet import UNet
from ..request import RequestError
from .config import Run


def base_model(run: Run) -> Model:
    """The model that a run begins with, its weights in float32 and its noise ladder as the objective wants it."""
    path = None if run.base == BUILT_IN and not Path(run.base).exists() else Path(run.base)
    model = load_model(path, device=run.device, dtype="float32")
    for part in model.parts.values():  # what a file holds is mapped, not owned
        part.load_state_dict({k: v.clone() for k, v in part.state_dict().items()}, assign=True)
        part.requires_grad_(False)
    if run.objective.zero_snr:
        model = replace(model, levels=model.levels.zero_terminal())
    if run.objective.prediction:
        model = replace(model, prediction=run.objective.prediction)
    return model


def widened(model: Model, channels_in: int, family: str) -> Model:
    """The model with a U-Net that takes more input channels; what is new weighs nothing at first.

    A network that has them already is left as it is. Raises RequestError for one that has others.
    """
    old, config = model.unet, model.unet.config
    if config.channels_in == channels_in:
        return model
    if config.channels_in != config.channels_out:
        raise RequestError(
            f"base {model.name!r} has {config.channels_in} input channels; this recipe wants a model of "
            f"{config.channels_out} or {channels_in}"
        )
    with torch.random.fork_rng(devices=[]):
        unet = UNet(replace(config, channels_in=channels_in)).to(model.device)
    state = old.state_dict()
    weight = unet.encoder[0]["conv"].weight  # type: ignore[index]
    state["encoder.0.conv.weight"] = torch.cat(
        [state["encoder.0.conv.weight"], weight.new_zeros(len(weight), channels_in - config.channels_in, 3, 3)], dim=1
    )
    unet.load_state_dict(state)
    row = FAMILIES.get(family, replace(model.family, name=family))
    return replace(model, unet=unet.eval().requires_grad_(False), family=replace(row, encodings=model.family.encodings))
