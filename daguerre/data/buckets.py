"""Aspect-ratio buckets: picture sizes of about one area, so that batches need no distortion and little cropping."""

from math import log

from ..request import RequestError
from .config import Data

Size = tuple[int, int]  # width, height in pixels


def buckets(data: Data) -> list[Size]:
    """The sizes (width, height) that pictures are brought to, widest last.

    Without `data.buckets` one square. With it, sides are multiples of `bucket_step`, their ratio is at most
    `bucket_reach`, and each is the highest of its width whose area is at most that of the square. There is a square.
    Raises RequestError.
    """
    size, step = data.size, data.bucket_step
    if size < 8:
        raise RequestError(f"size is {size}; it must be at least 8 pixels")
    if not data.buckets:
        return [(size, size)]
    if step < 1 or step > size:
        raise RequestError(f"bucket_step is {step}; it must be between 1 and size, {size}")
    if data.bucket_reach < 1:
        raise RequestError(f"bucket_reach is {data.bucket_reach:g}; a ratio of the longer to the shorter side is >= 1")
    sides = [(width, size * size // width // step * step) for width in range(step, size + 1, step)]
    upright = [(w, h) for w, h in sides if w <= h <= w * data.bucket_reach]
    square = size // step * step
    return sorted({(square, square), *upright, *((h, w) for w, h in upright)})


def bucket_of(width: int, height: int, data: Data) -> Size:
    """The size of `buckets(data)` whose aspect ratio is nearest to `width` / `height`; of equals the largest."""

    def distance(size: Size) -> tuple[float, int]:
        w, h = size
        return round(abs(log(width / height) - log(w / h)), 9), -w * h

    return min(buckets(data), key=distance)
