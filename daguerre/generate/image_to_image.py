"""Image to image: a picture drawn over, as far as its strength goes (arXiv:2108.01073)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Step
from ..families.model import Model
from ..request import ImageToImage
from .drawing import Control, Drawing, Picture, prepared, to_image
from .given import encoded, fitted, opaque, to_pixels, used, with_size_of


@torch.no_grad()
def image_to_image(
    model: Model, request: ImageToImage, image: Image.Image, controls: Sequence[Control] = ()
) -> Iterator[Step | Picture]:
    """Yields steps and pictures as `text_to_image` does, beginning with a picture of any size and mode.

    What is transparent lies on white. Raises RequestError and NumericError.
    """
    given = opaque(image)
    request = with_size_of(request, given.size)
    with prepared(model, request, controls) as drawing:
        drawing = replace(drawing, pictures=(used("image", given), *drawing.pictures))
        latents = _latents(drawing, request, given)
        for i in range(request.count):
            begun = time.perf_counter()
            x = yield from drawing.steps(i, drawing.start(i, latents))
            yield drawing.picture(i, to_image(model.decode(x)), begun)


def _latents(drawing: Drawing, request: ImageToImage, given: Image.Image) -> Tensor:
    """The given picture's latents at the drawing's size."""
    if request.resize != "latent":
        pixels = to_pixels(fitted(given, (request.width, request.height), request.resize))
        return encoded(drawing.model, pixels)
    own = with_size_of(replace(request, width=0, height=0), given.size)
    latents = encoded(drawing.model, to_pixels(fitted(given, (own.width, own.height), "stretch")))
    return F.interpolate(latents, drawing.shape[1:], mode="bilinear")
