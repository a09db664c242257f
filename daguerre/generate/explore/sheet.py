"""Pictures as a table with labels on its sides, composed from files: one cell is in memory at a time, not all."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from ...request import RequestError
from .lettering import Lettering, leading, lettered
from .plan import Plan, Words

MAX_PIXELS = 64_000_000  # of a grid; cells become smaller rather than that it becomes larger
EMPTY = "#dddddd"


@dataclass(frozen=True)
class Look:
    """How a grid is composed."""

    labels: bool = True
    margin: int = 0  # pixels between cells

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 500:
            raise RequestError(f"margin is {self.margin}; it must be from 0 to 500 pixels")


class Layout(NamedTuple):
    """Places in pixels within one sheet: above the cells its title and the columns' labels, left those of the rows."""

    cell: tuple[int, int]  # width and height
    margin: int
    top: Lettering
    left: Lettering
    title: Lettering
    left_width: int
    pad: int  # round the labels
    counts: tuple[int, int]  # columns and rows

    @property
    def title_height(self) -> int:
        return self.title.height + 2 * self.pad if self.title.height else 0

    @property
    def top_height(self) -> int:
        return self.title_height + (self.top.height + 2 * self.pad if self.top.height else 0)

    @property
    def size(self) -> tuple[int, int]:
        (columns, rows), (width, height) = self.counts, self.cell
        across = self.left_width + columns * width + (columns - 1) * self.margin
        return across, self.top_height + rows * height + (rows - 1) * self.margin

    def corner(self, x: int, y: int) -> tuple[int, int]:
        """The upper left corner of a cell."""
        width, height = self.cell
        return self.left_width + x * (width + self.margin), self.top_height + y * (height + self.margin)


def compose(plan: Plan, paths: Sequence[Path | None], look: Look = Look()) -> Image.Image:
    """The whole grid: its sheets side by side, in RGB. `paths` has a file for each job, None where there is none.

    Cells have the size of the largest picture, and become smaller where the grid would have more than MAX_PIXELS.
    """
    layout, columns, gap = _arranged(plan, paths, look)
    (width, height), sheets = layout.size, len(plan.sheets)
    across, down = columns * (width + gap) - gap, math.ceil(sheets / columns) * (height + gap) - gap
    page = Image.new("RGB", (across, down), "white")
    for z in range(sheets):
        _draw(page, (z % columns * (width + gap), z // columns * (height + gap)), layout, plan, paths, z)
    return page


def compose_sheets(plan: Plan, paths: Sequence[Path | None], look: Look = Look()) -> Iterator[Image.Image]:
    """Each sheet of the grid as a picture of its own."""
    layout, _, _ = _arranged(plan, paths, look)
    for z in range(len(plan.sheets)):
        page = Image.new("RGB", layout.size, "white")
        _draw(page, (0, 0), layout, plan, paths, z)
        yield page


def _arranged(plan: Plan, paths: Sequence[Path | None], look: Look) -> tuple[Layout, int, int]:
    """Places within a sheet, how many sheets stand side by side, and the gap between them."""
    sizes = [_size(path) for path in paths if path]
    if not sizes:
        raise RequestError("none of the grid's pictures is there")
    width, height = (max(side) for side in zip(*sizes, strict=True))
    sheets, share = len(plan.sheets), 1.0
    while True:
        cell = max(1, int(width * share)), max(1, int(height * share))
        layout = _layout(plan, cell, look)
        gap = 2 * look.margin + (max(cell) // 8 if sheets > 1 else 0)
        across, down = (side + gap for side in layout.size)
        columns = min(range(1, sheets + 1), key=lambda n: abs(math.log(n * across / (math.ceil(sheets / n) * down))))
        pixels = columns * across * math.ceil(sheets / columns) * down
        if pixels <= MAX_PIXELS or cell == (1, 1):
            return layout, columns, gap
        share *= min(0.95, math.sqrt(MAX_PIXELS / pixels))


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def _layout(plan: Plan, cell: tuple[int, int], look: Look) -> Layout:
    none, (width, height) = Lettering(1, ()), cell
    letters = max(14, (width + height) // 26)
    pad, counts = letters // 3, (len(plan.columns), len(plan.rows))
    if not look.labels:
        return Layout(cell, look.margin, none, none, none, 0, pad, counts)
    room = max(width - 2 * pad, 1)
    top = lettered(plan.columns, letters, room, max(height, leading(letters)))
    left = lettered(plan.rows, letters, max(width * 3 // 4, 96), max(height, 1))
    wide = left.width + 2 * pad if left.height else 0
    title = lettered(plan.sheets, letters + letters // 4, wide + counts[0] * (width + look.margin), height)
    return Layout(cell, look.margin, top, left, title, wide, pad, counts)


def _draw(
    page: Image.Image, origin: tuple[int, int], layout: Layout, plan: Plan, paths: Sequence[Path | None], z: int
) -> None:
    """Sheet z with its upper left corner at a place of the page."""
    (left, top), (columns, rows), (width, height) = origin, layout.counts, layout.cell
    if layout.title.height:
        middle = left + (layout.size[0] + layout.left_width) / 2
        layout.title.draw(page, z, (middle, top + layout.title_height / 2))
    if layout.top.height:
        for x in range(columns):
            middle = left + layout.corner(x, 0)[0] + width / 2
            layout.top.draw(page, x, (middle, top + (layout.title_height + layout.top_height) / 2))
    for y in range(rows):
        if layout.left.height:
            right = left + layout.left_width - layout.pad
            layout.left.draw(page, y, (right, top + layout.corner(0, y)[1] + height / 2), centered=False)
        for x in range(columns):
            corner = layout.corner(x, y)
            place = left + corner[0], top + corner[1]
            _paste(page, place, layout.cell, paths[(z * rows + y) * columns + x])


def _paste(page: Image.Image, place: tuple[int, int], cell: tuple[int, int], path: Path | None) -> None:
    """A file's picture in the middle of its cell; a gray field where there is none."""
    if path is None:
        far = place[0] + cell[0] - 1, place[1] + cell[1] - 1
        ImageDraw.Draw(page).rectangle((*place, *far), EMPTY)
        words = lettered([(Words("not drawn"),)], 14, cell[0], cell[1])
        words.draw(page, 0, (place[0] + cell[0] / 2, place[1] + cell[1] / 2))
        return
    with Image.open(path) as stored:
        picture = stored.convert("RGB")
    picture.thumbnail(cell, Image.Resampling.LANCZOS)
    free = cell[0] - picture.width, cell[1] - picture.height
    page.paste(picture, (place[0] + free[0] // 2, place[1] + free[1] // 2))
