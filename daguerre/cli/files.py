"""Pictures to files: names that overwrite nothing, files that are whole or absent."""

import re
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..files.durable import durable_new
from ..provenance import png

if TYPE_CHECKING:
    from ..generate.drawing import Picture


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
