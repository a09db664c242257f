"""Pictures to files: names that overwrite nothing, files that are whole or absent."""

import re
from collections.abc import Iterator, Sequence
from itertools import count
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..files.durable import durable_write
from ..provenance import png

if TYPE_CHECKING:
    from ..generate.drawing import Picture


def slug(prompt: str) -> str:
    """The beginning of a prompt as part of a file name."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words[:50].rstrip("-_") or "picture"


def save_picture(picture: "Picture", wanted: Path) -> Path:
    """Writes the picture with its record; takes the first free of NAME.png, NAME-2.png, NAME-3.png ..."""
    return save_bytes(png.encode(picture.image, picture.record), wanted)


def save_grid(pictures: Sequence["Picture"], wanted: Path) -> Path:
    """All pictures in one, as square as they go, with the infotext of the first."""
    columns = ceil(sqrt(len(pictures)))
    width, height = pictures[0].image.size
    grid = Image.new("RGB", (columns * width, ceil(len(pictures) / columns) * height), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture.image, (i % columns * width, i // columns * height))
    return save_bytes(png.encode(grid, pictures[0].record, is_whole=False), wanted)


def save_bytes(data: bytes, wanted: Path) -> Path:
    """Writes a file whole, under the first free of such names."""

    def write(target: Path) -> None:
        target.write_bytes(data)

    for path in _names(wanted):
        if not path.exists():
            try:
                durable_write(path, write, overwrite=False)
            except FileExistsError:
                continue  # another process was faster
            return path
    raise AssertionError("unreachable: there is always another name")


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    for n in count(2):
        yield wanted.with_stem(f"{wanted.stem}-{n}")
