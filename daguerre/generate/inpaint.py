"""Inpainting: a part of a picture drawn anew, the rest to the bit as it was."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Cond, Denoiser, Step, with_negative
from ..families.model import Model
from ..request import Fill, Inpaint
from .canvas import is_inpainting, masked_canvas
from .drawing import Control, Drawing, Picture, on_canvas, prepared, to_image
from .given import GRID, SMALLEST, encoded, fitted, to_pixels, used, with_size_of
from .masks import continued, joined, picture_and_mask, rounded, softened, to_values, without
from .tiling import refuse_tiling
from .window import Given, Window


@dataclass(frozen=True)
class Kept:
    """Draws where it is free to; elsewhere the estimate is what was given, so that noise alone moves it.

    Differential diffusion (arXiv:2306.00950): a place is free for the last part of the steps, as large as its share.
    """

    inner: Denoiser
    given: Tensor  # latents (1, C, H, W)
    free: Tensor  # shares of the steps (1, 1, H, W): 1 = from the first on, 0 = never
    sigmas: Tensor  # the noise levels of the walk

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return self._only_free(self.inner(x, sigma, cond), sigma)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """As `denoiser.with_negative`, for CFG++: what is kept is guided nowhere."""
        guided, negative = (self._only_free(estimate, sigma) for estimate in with_negative(self.inner, x, sigma, cond))
        return guided, negative

    def _only_free(self, estimate: Tensor, sigma: Tensor) -> Tensor:
        levels = self.sigmas[:-1]
        left = (levels <= sigma.max().to(levels.device)).sum().clamp(min=1) / len(levels)
        return torch.where(self.free >= left.item() - 1e-4, estimate, self.given.to(estimate.dtype))


@dataclass(frozen=True)
class Part:
    """What of a picture is drawn over: at the size of the drawing, and how it comes back."""

    image: Image.Image
    mask: Image.Image
    old: Image.Image  # what the result is joined with
    old_mask: Image.Image
    back: Callable[[Image.Image], Image.Image]  # a drawing at the size and place of `old`
    crop: Window | None = None  # where it lies in the picture, if it is not all of it


@torch.no_grad()
def inpaint(
    model: Model,
    request: Inpaint,
    image: Image.Image,
    mask: Image.Image | None = None,
    controls: Sequence[Control] = (),
) -> Iterator[Step | Picture]:
    """Yields steps and pictures as `text_to_image` does. White in the mask is drawn anew; without a mask it is what is
    transparent in the picture.

    Pixels farther than int(2.5 * mask_blur + 0.5) from the mask stay to the bit as they were, and the result is as
    large as the picture, but where the request gives a size. Raises RequestError and NumericError.
    """
    picture, values = picture_and_mask(image, mask, request)
    request, part = framed(model, request, picture, values)
    share = softened(to_values(part.old_mask), request.mask_blur)
    erased = Given.whole(without(part.image, part.mask))
    with prepared(model, request, controls, given=erased, crop=part.crop) as drawing:
        given = used("image", picture), used("mask", values)
        drawing = replace(drawing, pictures=(*given, *drawing.pictures))
        for i in range(request.count):
            begun = time.perf_counter()
            made = yield from drawn_over(drawing, i, part.image, part.mask, request.fill)
            yield drawing.picture(i, joined(part.old, part.back(made), share), begun)


def drawn_over(
    drawing: Drawing, i: int, image: Image.Image, mask: Image.Image, fill: Fill
) -> Generator[Step, None, Image.Image]:
    """Yields the steps to picture i from an image and a mask of the drawing's size; returns all that was decoded."""
    model, values = drawing.model, to_values(mask)
    pixels = to_pixels(image)
    begin = continued(pixels, values == 0) if fill == "fill" else pixels
    given = start = encoded(model, begin)
    free = F.max_pool2d(values, model.vae.config.factor).to(model.device)  # every place with a masked pixel in it
    if fill == "latent noise":
        start = torch.where(free > 0, drawing.noise(i), given)
    elif fill == "latent nothing":
        start = torch.where(free > 0, 0.0, given)
    if is_inpainting(model):
        drawing = on_canvas(drawing, masked_canvas(model, pixels, values))
    request = drawing.request
    if not is_inpainting(model) or (isinstance(request, Inpaint) and request.differential):
        around = drawing.around
        drawing = replace(drawing, around=lambda guided: Kept(around(guided), given, free, drawing.sigmas))
    x = yield from drawing.steps(i, drawing.start(i, start))
    return to_image(model.decode(x))


def framed(model: Model, request: Inpaint, picture: Image.Image, mask: Image.Image) -> tuple[Inpaint, Part]:
    """The request with its size, and the part of a picture that is drawn at that size.

    Raises RequestError for a picture that is too large, and for edges that are to meet and are not those drawn.
    """
    if request.only_masked:
        refuse_tiling(request, "only a part of the picture is drawn")
        defaults = model.defaults
        if not (request.width and request.height):
            request = replace(request, width=request.width or defaults.width, height=request.height or defaults.height)
        return request, _cropped(request, picture, mask)
    width, height = (max(SMALLEST, ceil(side / GRID) * GRID) for side in picture.size)
    if (request.width or width, request.height or height) != (width, height):
        request = with_size_of(request, picture.size)
        size = request.width, request.height
        old, old_mask = (fitted(image, size, request.resize) for image in (picture, mask))
        old_mask = old_mask if request.differential else rounded(old_mask)
        return request, Part(old, old_mask, old, old_mask, lambda made: made)
    with_size_of(request, picture.size)  # refuses what is too large
    if picture.size != (width, height):
        refuse_tiling(request, f"the picture's {picture.width} x {picture.height} pixels are no multiples of {GRID}")
    beyond = [(0, height - picture.height), (0, width - picture.width)]
    image = Image.fromarray(np.pad(np.asarray(picture), [*beyond, (0, 0)], "edge"))
    whole = Image.new("L", image.size)
    whole.paste(mask)
    request = replace(request, width=width, height=height)
    return request, Part(image, whole, picture, mask, lambda made: made.crop((0, 0, *picture.size)))


def _cropped(request: Inpaint, picture: Image.Image, mask: Image.Image) -> Part:
    """The masked part and what is around it, enlarged or reduced to the request's size."""
    box, size = around_mask(mask, request.padding, request.width / request.height), (request.width, request.height)
    image, part = (whole.crop(box).resize(size, Image.Resampling.LANCZOS) for whole in (picture, mask))
    if not request.differential:
        threshold = part.point(lambda value: 255 if value >= 64 else 0)  # reduced, a thin line is gray
        part = threshold if threshold.getbbox() else part.point(lambda value: 255 if value else 0)

    def back(made: Image.Image) -> Image.Image:
        whole = picture.copy()
        inner = made.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)
        whole.paste(inner, box[:2])
        return whole

    return Part(image, part, picture, mask, back, Window(picture.size, box))


def around_mask(mask: Image.Image, padding: int, shape: float) -> tuple[int, int, int, int]:
    """The box of a mask with a padding around it, made as wide as `shape` times its height where the picture lets."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    left, right = max(0, left - padding), min(mask.width, right + padding)
    top, bottom = max(0, top - padding), min(mask.height, bottom + padding)
    left, right = _widened(left, right, round((bottom - top) * shape), mask.width)
    top, bottom = _widened(top, bottom, round((right - left) / shape), mask.height)
    return left, top, right, bottom


def _widened(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """An interval that is at least so long, as far as 0 to `limit` lets, with the given one in its middle or near."""
    length = min(max(length, high - low), limit)
    low = min(max(0, low - (length - (high - low)) // 2), limit - length)
    return low, low + length
