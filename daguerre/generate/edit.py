"""Editing by instruction: models that see a picture and are told what to change (InstructPix2Pix, arXiv:2211.09800)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ..diffusion.denoiser import Cond, Step
from ..diffusion.prediction import Network
from ..families.model import Model
from ..request import Edit, RequestError
from .canvas import edited_canvas, is_editing
from .drawing import Control, Picture, on_canvas, prepared, to_image
from .given import encoded, fitted, opaque, to_pixels, used, with_size_of
from .window import Given


@dataclass(frozen=True)
class TowardsPicture:
    """A network guided towards the picture that it edits: arXiv:2211.09800, equation 3, less its guidance by text.

    To each output is added (scale - 1) times the difference that the picture makes under the negative prompt, so that
    classifier-free guidance on top makes the whole equation. Two more pictures in each call, on its negative side.
    """

    inner: Network
    negative: Cond  # of one picture, with the picture's channels
    scale: float

    def __call__(self, x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None, **told: Tensor) -> Tensor:
        picture, negative = self.negative.concat, self.negative
        assert picture is not None
        state = x[:1, : -picture.shape[1]]
        seen, blind = torch.cat([state, picture], 1), torch.cat([state, torch.zeros_like(picture)], 1)
        more = negative.tokens.to(tokens.dtype).expand(2, -1, -1)
        sides = {name: side.new_zeros(2) for name, side in told.items()}
        if more.shape[1] != tokens.shape[1]:  # a longer prompt: in calls of their own
            beside = None if negative.vector is None else negative.vector.expand(2, -1)
            with_it, without = self.inner(torch.cat([seen, blind]), t[:1].expand(2), more, beside, **sides).chunk(2)
            return self.inner(x, t, tokens, vector, **told) + (self.scale - 1) * (with_it - without)
        beside = None if vector is None or negative.vector is None else negative.vector.expand(2, -1)
        vectors = vector if vector is None or beside is None else torch.cat([vector, beside])
        sides = {name: torch.cat([side, sides[name]]) for name, side in told.items()}
        latents, times = torch.cat([x, seen, blind]), torch.cat([t, t[:1], t[:1]])
        y = self.inner(latents, times, torch.cat([tokens, more]), vectors, **sides)
        return y[:-2] + (self.scale - 1) * (y[-2:-1] - y[-1:])


@torch.no_grad()
def edit(model: Model, request: Edit, image: Image.Image, controls: Sequence[Control] = ()) -> Iterator[Step | Picture]:
    """Yields steps and pictures as `text_to_image` does; the prompt says what to change, such as "make it snow".

    Raises RequestError for a model that was not trained for this, and NumericError.
    """
    if not is_editing(model):
        raise RequestError(f"the model {model.name} does not edit by instruction; take one trained for it, or img2img")
    given = opaque(image)
    request = with_size_of(request, given.size)
    fitting = fitted(given, (request.width, request.height), request.resize)
    pixels = to_pixels(fitting)
    with prepared(model, request, controls, given=Given.whole(fitting)) as drawing:
        model = drawing.model
        drawing = on_canvas(drawing, edited_canvas(model, pixels))
        if request.image_cfg_scale != 1:
            network = TowardsPicture(drawing.unguided.network, drawing.conditions[0].negative, request.image_cfg_scale)
            drawing = replace(drawing, unguided=replace(drawing.unguided, network=network))
        drawing = replace(drawing, pictures=(used("image", given), *drawing.pictures))
        latents = None if request.strength == 1 else encoded(model, pixels)
        for i in range(request.count):
            begun = time.perf_counter()
            x = yield from drawing.steps(i, drawing.start(i, latents))
            yield drawing.picture(i, to_image(model.decode(x)), begun)
