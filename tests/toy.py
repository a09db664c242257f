"""Toy models for tests: the real classes at toy width, random weights that make prompts matter."""

from pathlib import Path

import torch

from daguerre.families.catalog import FAMILIES
from daguerre.families.model import Model
from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.models.unet import UNet, UNetConfig
from daguerre.models.vae import VAE, VAEConfig

TEXT = CLIPTextConfig(width=32, layers=2, heads=4)
VAE_TOY = VAEConfig((32, 32, 32, 32), blocks=1)
UNETS = {
    "sd1": UNetConfig((32, 64), (1, 1), 32, heads=8, linear=False, blocks=1),
    "sd1-inpaint": UNetConfig((32, 64), (1, 1), 32, heads=8, linear=False, blocks=1, channels_in=9),
    "sd1-edit": UNetConfig((32, 64), (1, 1), 32, heads=8, linear=False, blocks=1, channels_in=8),
    "sd2": UNetConfig((64, 64), (1, 1), 32, blocks=1),
    "sdxl": UNetConfig((64, 64), (0, 1), 64, blocks=1, vector=32 + 6 * 8),
    "sdxl-refiner": UNetConfig((64, 64), (1, 0), 32, blocks=1, vector=32 + 5 * 8),
    "tintype": UNetConfig((32, 64), (0, 1), 32, head_width=32, blocks=1),
}


def toy(name: str = "tintype", seed: int = 0, **changes: object) -> Model:
    """A model of this family with weights that depend on `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        projected = CLIPTextConfig(width=32, layers=2, heads=4, activation="gelu", projection=32)
        texts = {"sd2": [projected], "sdxl": [TEXT, projected], "sdxl-refiner": [projected]}.get(name, [TEXT])
        unet, vae = UNet(UNETS[name]), VAE(VAE_TOY)
        text = tuple(CLIPText(config) for config in texts)
        with torch.no_grad():
            unet.conv_out.weight.mul_(4)
    for module in (unet, vae, *text):
        module.eval().requires_grad_(requires_grad=False)
    made = {"family": FAMILIES[name], "unet": unet, "vae": vae, "text": text, "prediction": "epsilon", "name": "toy"}
    return Model(**{**made, **changes})


def write_toy(model: Model, path: Path) -> Path:
    """The model as one file in the ldm layout."""
    from daguerre.checkpoints.identify import Description
    from daguerre.checkpoints.writer import write_ldm

    description = Description(
        family=model.family.name,
        prediction=model.prediction,
        unet=model.unet.config,
        vae=model.vae.config,
        text=tuple(t.config for t in model.text),
    )
    write_ldm(path, {name: module.state_dict() for name, module in model.parts.items()}, description)
    return path
