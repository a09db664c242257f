"""Pictures to files: names that overwrite nothing, files that are whole or absent."""

import errno
import os
import re
import tempfile
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..files.durable import durable_new
from ..provenance import png
from ..request import RequestError
from .exit import FAILED, NAMED_WRONG, UNUSABLE, Failure

if TYPE_CHECKING:
    from ..generate.drawing import Picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def folder_and_file(out: Path, *endings: str) -> tuple[Path, Path | None]:
    """The folder that --out means, and the file where it names one, which has one of these endings.

    Raises RequestError for other kinds of pictures, and for an ending without a name.
    """
    ending = out.suffix.lower()
    if out.name.lower() in PICTURES and not out.is_dir():
        raise RequestError(f"--out {out}: nothing stands before the ending; give the picture a name")
    if ending in endings:
        return out.parent, out
    if ending in PICTURES and not out.is_dir():
        files = f", or a file that ends in {' or '.join(endings)}" if endings else ""
        raise RequestError(f"--out {out}: no {ending} is written here; name a folder{files}")
    return out, None


def check_writable(folder: Path, file: Path | None = None) -> None:
    """Raises Failure where no file, or not this one, can be written to a folder, or the folder not be made.

    Nothing stays of what it makes to find that out.
    """
    place = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110  never raises
    try:
        with tempfile.TemporaryDirectory(dir=place) as scratch:
            for name in (file or folder).relative_to(place).parts:
                Path(scratch, name).mkdir(exist_ok=True)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Failure(f"--out {file or folder!s:.60}...: the name is too long; choose another", UNUSABLE) from error
        raise Failure(
            f"{place}: nothing can be written there ({error.strerror}); name another place with --out",
            UNUSABLE if error.errno in NAMED_WRONG else FAILED,
        ) from error


def slug(prompt: str) -> str:
    """The beginning of a prompt as part of a file name."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:50].rstrip("-_") or "picture"


def save_picture(picture: "Picture", wanted: Path) -> Path:
    """Writes the picture with its record; takes the first free of NAME.png, NAME-2.png, NAME-3.png ..."""
    return durable_new(wanted, png.encode(picture.image, picture.record))


def save_grid(pictures: Sequence["Picture"], wanted: Path) -> Path:
    """All pictures in one, as square as they go, with the infotext of the first."""
    columns = ceil(sqrt(len(pictures)))
    width, height = pictures[0].image.size
    grid = Image.new("RGB", (columns * width, ceil(len(pictures) / columns) * height), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture.image, (i % columns * width, i // columns * height))
    return durable_new(wanted, png.encode(grid, pictures[0].record, is_whole=False))


def read_picture(path: Path) -> "Image.Image":
    """A file's picture, upright, in mode RGB or RGBA. Raises Failure that names the file."""
    from ..data.decode import PictureError, decode_transparent
    from ..data.found import file_bytes

    try:
        return decode_transparent(file_bytes(path))
    except PictureError as error:
        raise Failure(f"{path}: {error}", UNUSABLE) from error
