"""What latents show, at a small part of the cost of decoding them: for pictures of a drawing in progress."""

from functools import cache

import torch
from PIL import Image
from torch import Tensor

from ..families.model import Model
from ..files.built_in import built_in
from ..models.enlarger import Enlarger
from .drawing import to_image
from .upscale import load_enlarger

# Red, green and blue in [-1, 1] as a linear map of scaled latents, by what tells a VAE: its channels and its scale.
LINEAR = {
    # https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
    (4, 0.18215): (
        ((0.298, 0.187, -0.158, -0.184), (0.207, 0.286, 0.189, -0.271), (0.208, 0.173, 0.264, -0.473)),
        (0.0, 0.0, 0.0),
    ),
    # https://huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space, of 255 there
    (4, 0.13025): (
        ((0.471, -0.471, 0.196, -0.549), (0.471, -0.039, 0.118, -0.392), (0.471, 0.078, -0.039, -0.275)),
        (0.176, 0.098, 0.020),
    ),
    # tintype's, by least squares on 520 of its training pictures and their means of 8 x 8 pixels: 26.6 dB
    (6, 0.26577): (
        (
            (-0.053, -0.147, 0.097, 0.304, 0.482, -0.120),
            (-0.036, -0.109, 0.097, 0.326, 0.107, 0.214),
            (0.002, -0.052, 0.094, 0.371, -0.261, -0.121),
        ),
        (0.134, 0.133, 0.119),
    ),
}


def preview(model: Model, latents: Tensor) -> Image.Image:
    """A small picture of scaled latents (1, C, h, w), such as the `x0` of a step.

    tintype's have a small decoder, whose picture is 8 w by 8 h pixels; others become w by h pixels by a linear map of
    the channels, or shades of gray of the first channel where no map is known.
    """
    z = latents.detach().float().cpu()
    if model.family.name == "tintype" and (decoder := _decoder()).config.channels == z.shape[1]:
        with torch.no_grad():
            return to_image(decoder(z))
    return to_image(linear(z, model.vae.config.scale))


def linear(z: Tensor, scale: float) -> Tensor:
    """Colors (1, 3, h, w), about [-1, 1], of latents that were scaled by `scale`."""
    if (z.shape[1], scale) not in LINEAR:
        return z[:, :1].expand(-1, 3, -1, -1) / 3
    weights, bias = map(torch.tensor, LINEAR[z.shape[1], scale])
    return torch.einsum("rc,bchw->brhw", weights, z) + bias[:, None, None]


@cache
def _decoder() -> Enlarger:
    return load_enlarger(built_in("preview"))
