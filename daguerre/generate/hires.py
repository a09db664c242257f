"""Hires fix: a picture drawn small, enlarged, and drawn over at full size (A1111's term)."""

import time
from collections.abc import Generator, Sequence
from dataclasses import fields, replace
from math import ceil

from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Step
from ..diffusion.samplers import find_sampler
from ..families.model import Model
from ..provenance.record import UsedPicture
from ..request import Hires, ImageToImage, RequestError, TextToImage
from ..text.template import second_prompts
from .controls.style import Style
from .drawing import Control, Picture, prepared, settled, to_image
from .given import GRID, encoded, to_pixels
from .upscale import Upscaler, check_upscaler, enlarged_to, find_upscaler

# Ways to enlarge latents: of torch's interpolation, and whether it filters.
LATENT = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}


def passes(request: TextToImage) -> tuple[TextToImage, ...]:
    """The request with every choice made, and that of its second pass where it has one.

    Raises RequestError for what no model can draw.
    """
    first = settled(request)
    return (first, settled(second_pass(first, first.hires))) if first.hires else (first,)


def second_pass(first: TextToImage, hires: Hires) -> ImageToImage:
    """The request for the pass over the enlarged picture. Raises RequestError for a size that cannot be drawn."""
    values = {f.name: getattr(first, f.name) for f in fields(TextToImage)}
    width, height = enlarged_size((first.width, first.height), hires)
    values |= {"hires": None, "width": width, "height": height, "steps": hires.steps or first.steps}
    own, own_negative = second_prompts(replace(first, hires=hires))
    said = {"sampler": hires.sampler, "schedule": hires.schedule, "prompt": own, "negative_prompt": own_negative}
    values |= {name: value for name, value in said.items() if value}
    if hires.sampler and not hires.schedule:
        values["schedule"] = "automatic"
    check_upscaler(hires.upscaler, "hires upscaler", LATENT)
    try:
        return ImageToImage(**values, strength=hires.strength, exact_steps=True)
    except RequestError as error:
        raise RequestError(f"hires: {error}") from error


def enlarged_size(size: tuple[int, int], hires: Hires) -> tuple[int, int]:
    """Width and height of the second pass, multiples of 8: as given, or one as given and the other by its ratio."""
    width, height = size
    scale = hires.width / width or hires.height / height or hires.scale
    by_scale = (max(GRID, round(side * scale / GRID) * GRID) for side in size)
    return tuple(given or side for given, side in zip((hires.width, hires.height), by_scale, strict=True))  # type: ignore


def drawn_twice(
    model: Model, request: TextToImage, hires: Hires, controls: Sequence[Control]
) -> Generator[Step | Picture, None, None]:
    """Yields the steps of both passes of every picture, and each picture after them."""
    first, over = passes(request)
    calls = find_sampler(first.sampler)[0].counted(first.steps)
    quick = [control for control in controls if not isinstance(control, Style)]  # which draws its reference
    try:
        with model.during("second") as whole, prepared(whole, over, quick, after=calls):
            pass  # what cannot be drawn is refused now, not after a pass
    except RequestError as error:
        raise RequestError(f"the second pass: {error}") from error
    upscaler = None if hires.upscaler in LATENT else find_upscaler(hires.upscaler)
    given = () if upscaler is None else (UsedPicture(role="hires upscaler", sha256=upscaler.sha256),)
    asked = replace(request, variation_seed=first.variation_seed)
    for i in range(first.count):
        begun = time.perf_counter()
        with model.during("first") as whole, prepared(whole, replace(first, hires=None), controls) as drawing:
            latents = yield from drawing.steps(i, drawing.start(i))
            latents = enlarged(drawing.model, latents, over, hires.upscaler, upscaler)
        with model.during("second") as whole, prepared(whole, over, controls, after=calls) as drawing:
            x = yield from drawing.steps(i, drawing.start(i, latents))
            drawing = replace(drawing, asked=asked, request=first, pictures=(*given, *drawing.pictures))
            yield drawing.picture(i, to_image(drawing.model.decode(x)), begun)


def larger_latents(latents: Tensor, size: tuple[int, int], way: str) -> Tensor:
    """Latents (1, C, h, w) at another height and width; what another shape leaves no room for is cut off evenly."""
    scale = max(new / old for new, old in zip(size, latents.shape[-2:], strict=True))
    covering = [ceil(old * scale - 1e-6) for old in latents.shape[-2:]]
    mode, antialias = LATENT[way]
    large = F.interpolate(latents, covering, mode=mode, antialias=antialias)
    top, left = ((whole - part) // 2 for whole, part in zip(covering, size, strict=True))
    return large[:, :, top : top + size[0], left : left + size[1]]


def enlarged(model: Model, latents: Tensor, over: TextToImage, way: str, upscaler: Upscaler | None) -> Tensor:
    """Latents at the second pass's size, as such or by way of the picture; another shape is cut off evenly."""
    if way in LATENT:
        factor = model.vae.config.factor
        return larger_latents(latents, (over.height // factor, over.width // factor), way)
    image = enlarged_to(to_image(model.decode(latents)), (over.width, over.height), way, upscaler)
    return encoded(model, to_pixels(image))
