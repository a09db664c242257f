"""Pictures that a user gives along with a request: upright, opaque, of the size that is drawn, as latents."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..families.model import Model
from ..provenance.record import UsedPicture, pixel_sha256
from ..request import LIMITS, ImageToImage, RequestError, Resize
from ..runtime.precision import require_finite

GRID = 8  # pixels: sides that can be drawn are multiples of it
SMALLEST, LARGEST = (int(limit) for limit in LIMITS["width"])
Asked = TypeVar("Asked", bound=ImageToImage)


def upright(image: Image.Image) -> Image.Image:
    """A picture of any mode in mode RGB, or RGBA where it is transparent, turned as its EXIF says.

    Of 16 bits or floating point (0 to 1) the 8 highest bits are kept.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        top = 1.0 if image.mode == "F" else 65535.0
        values = np.asarray(image, np.float64).clip(0, top) * (255 / top)
        image = Image.fromarray(values.round().astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def opaque(image: Image.Image) -> Image.Image:
    """A picture of any mode in mode RGB, upright, on white where it is transparent."""
    image = upright(image)
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def used(role: str, image: Image.Image) -> UsedPicture:
    """What a record says of a given picture."""
    return UsedPicture(role=role, sha256=pixel_sha256(image))


def with_size_of(request: Asked, size: tuple[int, int], remedy: str = "give a width and a height") -> Asked:
    """The request with the sides that it leaves open as those of a picture of this size, rounded to what can be drawn.

    Raises RequestError for a picture too large to be drawn at once.
    """
    if request.width and request.height:
        return request
    wide, high = size
    if request.width or request.height:
        scale = request.width / wide or request.height / high
    else:
        scale = max(1.0, SMALLEST / min(size))
    width, height = (max(SMALLEST, round(side * scale / GRID) * GRID) for side in size)
    width, height = request.width or width, request.height or height
    if max(width, height) > LARGEST:
        most = f"at most {LARGEST} along a side can be drawn at once"
        raise RequestError(f"the picture has {wide} x {high} pixels; {most}: {remedy}")
    return replace(request, width=width, height=height)


def fitted(image: Image.Image, size: tuple[int, int], how: Resize) -> Image.Image:
    """A picture at another size: stretched, cropped evenly, or whole with its edges drawn out to fill the rest.

    "latent" is stretched here, for pictures that have to be pixels.
    """
    if image.size == size:
        return image
    if how == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if how != "fill":
        return image.resize(size, Image.Resampling.LANCZOS)
    scale = min(new / old for new, old in zip(size, image.size, strict=True))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    missing = size[1] - small.height, size[0] - small.width
    pixels = np.asarray(small)
    sides = [(n // 2, n - n // 2) for n in missing]
    return Image.fromarray(np.pad(pixels, [*sides, (0, 0)][: pixels.ndim], "edge"))


def to_pixels(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [-1, 1] of a picture of mode RGB: what `to_image` turns back."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def encoded(model: Model, pixels: Tensor) -> Tensor:
    """Scaled latents (1, C, h, w), float32, of pixels (1, 3, H, W) in [-1, 1]: the mean, so that nothing is random.

    A VAE that overflows in half precision runs once more in float32. Raises NumericError if that does not help.
    """
    with model.on_device("vae"):
        vae, dtype = model.vae, model.vae.quant.weight.dtype
        pixels = pixels.to(model.device)
        latents = vae.encode(pixels.to(dtype)).float()
        if dtype != torch.float32 and not latents.isfinite().all():
            vae.float()
            try:
                latents = vae.encode(pixels)
            finally:
                vae.to(dtype)  # without loss: the weights were of this dtype
    require_finite(latents, "the encoding of the given picture")
    return latents
