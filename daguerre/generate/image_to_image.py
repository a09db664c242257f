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
from .drawing import Control, Picture, prepared, to_image
from .given import encoded, fitted, opaque, to_pixels, used, with_size_of
from .window import Given


@torch.no_grad()
def image_to_image(
    model: Model, request: ImageToImage, image: Image.Image, controls: Sequence[Control] = ()
) -> Iterator[Step | Picture]:
    """Yields steps and pictures as `text_to_image` does, beginning with a picture of any size and mode.

    What is transparent lies on white. Raises RequestError and NumericError.
    """
    given = opaque(image)
    request = with_size_of(request, given.size)
    fitting = fitted(given, (request.width, request.height), request.resize)
    with prepared(model, request, controls, given=Given.whole(fitting)) as drawing:
        drawing = replace(drawing, pictures=(used("image", given), *drawing.pictures))
        model = drawing.model
        latents = encoded(model, to_pixels(fitting)) if request.resize != "latent" else _resized(model, request, given)
        for i in range(request.count):
            begun = time.perf_counter()
            x = yield from drawing.steps(i, drawing.start(i, latents))
            yield drawing.picture(i, to_image(model.decode(x)), begun)


def _resized(model: Model, request: ImageToImage, given: Image.Image) -> Tensor:
    """The given picture's latents at its own size, then at the request's."""
    own = with_size_of(replace(request, width=0, height=0), given.size, "resize it in another way than latent")
    latents = encoded(model, to_pixels(fitted(given, (own.width, own.height), "stretch")))
    factor = model.vae.config.factor
    return F.interpolate(latents, (request.height // factor, request.width // factor), mode="bilinear")
