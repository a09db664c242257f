"""Encoded pictures to pixels: only formats on a list, of bounded size, upright, on a ground where transparent."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from ..request import RequestError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # and MPO, which is several JPEGs
MAX_PIXELS = 64_000_000  # no camera in common use makes more; 192 MB when decoded
TEXT = (b"<svg", b"<?xml", b"<html", b"<!doctype", b"<head", b"<body")
_quiet = threading.Lock()  # the list of warning filters is shared by all threads


class PictureError(ValueError):
    """Bytes that are no usable picture; the message is the reason, to be put after the picture's name."""


def decode(data: bytes, background: str) -> Image.Image:
    """The picture in mode RGB, turned as its EXIF says, laid on the color `background` where it is transparent.

    Of an animation it is the first frame. More than 8 bits are scaled down, not clipped; CMYK is converted by
    Pillow's plain formula, without color profiles. Raises PictureError.
    """
    return _finished(_opened(data), ground_color(background))


def decode_transparent(data: bytes) -> Image.Image:
    """The picture as `decode` gives it, but in mode RGBA where it is transparent; its color profile is kept."""
    return _finished(_opened(data), None)


def examine(data: bytes) -> tuple[int, int]:
    """What `probe` tells, of a picture that `decode` can decode; raises PictureError of any other."""
    image = _opened(data)
    size = image.size
    image.draft(None, (1, 1))  # an eighth of a JPEG's sides: all of the file is read, few pixels are made
    _finished(image, (255, 255, 255))
    return _upright(size, image)


def probe(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the picture will be after its EXIF turned it.

    Reads headers only, but all of a PNG, whose EXIF may come last. Raises PictureError.
    """
    image = _opened(data)
    return _upright(image.size, image)


def ground_color(background: str) -> tuple[int, ...]:
    """A color's name or "#rrggbb" as numbers; raises RequestError."""
    try:
        return ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise RequestError(f'background is {background!r}; name a color, such as "white" or "#f0f0f0"') from error


def _opened(data: bytes) -> Image.Image:
    with _told_as_damage(), _silence():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise PictureError(_no_picture(data)) from error
    if not image.width or not image.height:
        raise PictureError(f"it has no pixels: {image.width} x {image.height}")
    if image.width * image.height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
        raise PictureError(f"it is too large: {image.width} x {image.height} pixels; {limit}")
    return image


def _upright(size: tuple[int, int], image: Image.Image) -> tuple[int, int]:
    return size[::-1] if _exif(image).get(0x0112) in (5, 6, 7, 8) else size


def _exif(image: Image.Image) -> Image.Exif:
    with _told_as_damage(), _silence():
        return image.getexif()  # parsed once and kept in the image


def _finished(image: Image.Image, ground: tuple[int, ...] | None) -> Image.Image:
    with _told_as_damage():
        image.load()
        _exif(image)
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image = _eight_bits(image)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            if ground is None:
                return rgba
            return Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba).convert("RGB")
        return image.convert("RGB")


@contextmanager
def _told_as_damage() -> Iterator[None]:
    try:
        yield
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # Pillow's decoders raise all kinds for damaged files
        raise PictureError(_reason(error)) from error


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings of Pillow, whose limits are wider than ours."""
    with _quiet, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _no_picture(data: bytes) -> str:
    if not data:
        return "it is empty"
    if data.lstrip()[:9].lower().startswith(TEXT):
        return "it is text (SVG, XML or HTML), not pixels"
    return f"it is damaged or in none of the formats that are read: {', '.join(FORMATS)}"


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return "it is too large: more pixels than memory should hold"
    return f"it is damaged: {error or type(error).__name__}"


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 bits, 0 to 65535, or of floating point, 0 to 1, as gray of 8 bits."""
    values = np.asarray(image, dtype=np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
        raise PictureError(f"its gray values are outside 0 to {top:g}")
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))
