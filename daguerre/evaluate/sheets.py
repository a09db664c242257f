"""Pictures side by side with their captions, as one."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIDE, LINES, LETTERS = 128, 3, 22  # pixels; lines of a caption and letters in each
FONT, LEADING = 11, 13  # pixels


class Cell(NamedTuple):
    image: Image.Image
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Pictures for the report."""

    name: str  # of its file
    title: str
    says: str
    cells: tuple[Cell, ...]


def sheet(cells: Sequence[Cell], columns: int) -> Image.Image:
    """Cells row by row. Raises ValueError for none."""
    if not cells:
        raise ValueError("there are no pictures to show")
    high = SIDE + LINES * LEADING + 6
    font = ImageFont.load_default(FONT)
    page = Image.new("RGB", (columns * SIDE, -(-len(cells) // columns) * high), "white")
    pen = ImageDraw.Draw(page)
    for i, cell in enumerate(cells):
        x, y = i % columns * SIDE, i // columns * high
        page.paste(cell.image.resize((SIDE, SIDE)), (x, y))
        lines = textwrap.wrap(readable(cell.caption), LETTERS, max_lines=LINES, placeholder=" ...")
        pen.multiline_text((x + 4, y + SIDE + 1), "\n".join(lines), "#555555", font, spacing=1)
    return page


def readable(caption: str) -> str:
    """A caption as Pillow's own font can show it: words in scripts that it lacks give way to what follows them."""
    kept = "".join(letter for letter in caption if ord(letter) < 0x250)
    return " ".join(kept.split()) or "?"
