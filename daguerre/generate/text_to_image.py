"""Text to image: from a prompt to its pictures."""

import time
from collections.abc import Iterator, Sequence

import torch

from ..diffusion.denoiser import Step
from ..families.model import Model
from ..request import TextToImage
from .drawing import Control, Picture, prepared, to_image
from .hires import drawn_twice


@torch.no_grad()
def text_to_image(model: Model, request: TextToImage, controls: Sequence[Control] = ()) -> Iterator[Step | Picture]:
    """Yields every sampler step of every picture, and each picture after its last step; stop iterating to cancel.

    Raises RequestError for what cannot be drawn and NumericError when the numbers break down.
    """
    if request.hires:
        yield from drawn_twice(model, request, request.hires, controls)
        return
    with prepared(model, request, controls) as drawing:
        for i in range(drawing.request.count):
            begun = time.perf_counter()
            latents = yield from drawing.steps(i, drawing.start(i))
            yield drawing.picture(i, to_image(drawing.model.decode(latents)), begun)
