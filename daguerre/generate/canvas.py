"""What inpainting and editing networks see beside the noise."""

import torch
from torch import Tensor

from ..families.model import Model


def empty_canvas(model: Model, shape: tuple[int, int, int]) -> Tensor | None:
    """What inpainting and editing networks see beside the noise (1, *shape) when there is no picture yet.

    Inpainting: a mask of ones, "draw everything", and the latents of a gray picture. Editing: zeros, the "no
    picture" of its training. None for other networks.
    """
    extra, (channels, height, width) = model.unet.config.channels_in - shape[0], shape
    if extra == 0:
        return None
    if extra == channels:
        return torch.zeros(1, *shape, device=model.device)
    mask = torch.ones(1, 1, height, width, device=model.device)
    with model.on_device("vae"):
        factor, weights = model.vae.config.factor, model.vae.quant.weight
        gray = torch.zeros(1, 3, height * factor, width * factor, device=model.device, dtype=weights.dtype)
        return torch.cat([mask, model.vae.encode(gray)], dim=1)
