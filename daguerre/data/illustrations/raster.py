"""Drawings as square pictures of RGBA pixels."""

import hashlib
import io
import logging
from pathlib import Path

import numpy as np
from PIL import Image

QUALITY, FILLED = 88, 120 / 128  # of WebP; of the side that a trimmed drawing takes
SEEN, LARGEST = 8, 4096  # alpha of 255 below which a pixel counts as empty; pixels of a side drawn at most
VERSION = b"1"  # of what is below: another one draws all anew
log = logging.getLogger(__name__)


def square(data: str | bytes, size: int, *, trim: bool) -> Image.Image:
    """A drawing (SVG text, or the bytes of a picture) centered on a square of `size` pixels, the rest transparent.

    Curves are drawn twice as large and reduced, with alpha multiplied in, by Lanczos's filter. `trim` cuts away the
    empty page around and leaves a margin of 1/32. Raises ValueError for what cannot be drawn or shows nothing.
    """
    if isinstance(data, bytes):
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as file:
            large = file.convert("RGBA")
    else:
        large = _drawn(data, 2 * size)
        if trim:
            side = _part(large).size
            zoom = min(LARGEST, round(max(large.size) * 2 * size * FILLED / max(side)))
            large = _part(_drawn(data, zoom))
    filled = size * FILLED if trim else size
    scale = filled / (max(large.size) if trim or isinstance(data, bytes) else 2 * size)
    small = large.resize([max(1, round(side * scale)) for side in large.size], Image.Resampling.LANCZOS)
    picture = Image.new("RGBA", (size, size))
    picture.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return picture


def opacity(picture: bytes) -> float:
    """The share of a WebP's pixels that are more than half opaque."""
    with Image.open(io.BytesIO(picture), formats=["WEBP"]) as file:
        return float((np.asarray(file.convert("RGBA"))[..., 3] > 127).mean())


def _drawn(svg: str, side: int) -> Image.Image:
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, dpi=96, skip_system_fonts=True)
    except BaseException as error:  # of Rust: ValueError, or a panic that is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise ValueError(f"it cannot be drawn: {error}") from error
    with Image.open(io.BytesIO(bytes(png)), formats=["PNG"]) as file:
        return file.convert("RGBA")


def _part(picture: Image.Image) -> Image.Image:
    """Where something is; raises ValueError if that is nowhere."""
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > SEEN)).getbbox()
    if box is None:
        raise ValueError("it shows nothing")
    return picture.crop(box)


def encoded(data: str | bytes, size: int, folder: Path, *, trim: bool) -> bytes:
    """The drawing as WebP, kept in `folder` by its content and used again if whole; b"" if it cannot be drawn."""
    source = data.encode() if isinstance(data, str) else data
    key = hashlib.sha256(b"|".join((VERSION, str((size, trim, QUALITY)).encode(), source))).hexdigest()[:32]
    path = folder / f"{key}.webp"
    if path.is_file() and _is_whole(found := path.read_bytes()):
        return found
    memory = io.BytesIO()
    try:
        square(data, size, trim=trim).save(memory, "WEBP", quality=QUALITY)
    except ValueError as error:
        log.debug("a drawing is left out: %s", error)
        return b""
    path.write_bytes(memory.getvalue())
    return memory.getvalue()


def draw(task: tuple[str | bytes, int, Path, bool]) -> bytes:
    """`encoded` of one value: what processes are given (drawing, size, folder, trim)."""
    data, size, folder, trim = task
    return encoded(data, size, folder, trim=trim)


def _is_whole(data: bytes) -> bool:
    """Whether a WebP is as long as it says; a process killed while writing leaves a part."""
    return data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 == len(data)
