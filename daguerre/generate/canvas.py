"""What inpainting and editing networks see beside the noise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..families.model import Model
from .given import encoded


def is_inpainting(model: Model) -> bool:
    """Whether the network sees a mask and the masked latents."""
    return _extra(model) > model.unet.config.channels_out


def is_editing(model: Model) -> bool:
    """Whether the network sees the latents of a picture to edit."""
    return _extra(model) == model.unet.config.channels_out


def _extra(model: Model) -> int:
    return model.unet.config.channels_in - model.unet.config.channels_out


def empty_canvas(model: Model, shape: tuple[int, int, int]) -> Tensor | None:
    """What inpainting and editing networks see beside the noise (1, *shape) when there is no picture yet.

    Inpainting: a mask of ones, "draw everything", and the latents of a gray picture. Editing: zeros, the "no
    picture" of its training. None for other networks.
    """
    if is_editing(model):
        return torch.zeros(1, *shape, device=model.device)
    if not is_inpainting(model):
        return None
    _, height, width = shape
    factor = model.vae.config.factor
    gray = torch.zeros(1, 3, height * factor, width * factor)
    return masked_canvas(model, gray, torch.ones_like(gray[:, :1]))


def masked_canvas(model: Model, pixels: Tensor, mask: Tensor) -> Tensor:
    """What an inpainting network sees of pixels (1, 3, H, W) in [-1, 1] and a mask (1, 1, H, W): the mask, and the
    latents of the picture with the masked part in gray."""
    free = F.max_pool2d((mask > 0).float(), model.vae.config.factor).to(model.device)
    return torch.cat([free, encoded(model, pixels * (mask == 0))], dim=1)


def edited_canvas(model: Model, pixels: Tensor) -> Tensor:
    """What an editing network sees of pixels (1, 3, H, W): their latents, which it was trained to see unscaled."""
    return encoded(model, pixels) / model.vae.config.scale
