"""What a network sees of the picture that is made: all of it, or a part where it is drawn in tiles or windows."""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor


class Window(NamedTuple):
    """A box in a picture, in pixels. What is made for the whole picture, such as a mask, is seen through it."""

    picture: tuple[int, int]  # width and height of the whole
    box: tuple[int, int, int, int]  # left, upper, right, lower; it may reach beyond the picture
    meet: tuple[bool, bool] = (False, False)  # the picture's edges, above and below, left and right, as it repeats

    @classmethod
    def whole(cls, width: int, height: int) -> Self:
        """A window that shows everything."""
        return cls((width, height), (0, 0, width, height))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is seen."""
        left, upper, right, lower = self.box
        return right - left, lower - upper

    def scaled(self, scale: float, multiple: int = 1) -> Self:
        """The window of a picture so many times as large, its own sides rounded up to a multiple."""
        width, height = (round(side * scale) for side in self.picture)
        left, upper, right, lower = (round(edge * scale) for edge in self.box)
        wide, high = (ceil(side / multiple) * multiple for side in (right - left, lower - upper))
        return type(self)((width, height), (left, upper, left + wide, upper + high), self.meet)

    def within(self, other: Self) -> Self:
        """The same window of what another one shows."""
        (left, upper, right, lower), (x, y, _, _) = self.box, other.box
        return type(self)(other.size, (left - x, upper - y, right - x, lower - y), self.meet)

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """The rows (h, 1) and columns (w,) of the picture that are seen. Beyond the picture its edges go on, or what
        is on the other side where they meet."""
        (width, height), (left, upper, right, lower), (around, aside) = self
        rows, columns = torch.arange(upper, lower), torch.arange(left, right)
        rows = rows % height if around else rows.clamp(0, height - 1)
        return rows[:, None], columns % width if aside else columns.clamp(0, width - 1)

    def cut(self, values: Tensor) -> Tensor:
        """What is seen of values (..., H, W) at the picture's size."""
        return values[(..., *self.places)]


@dataclass(frozen=True, eq=False)
class Given:
    """A picture that is drawn over, or a part of it; the same one only if it is the same object."""

    image: Image.Image  # RGB, or RGBA, transparent where it is masked
    window: Window  # what of the whole it shows, at any resolution

    @classmethod
    def whole(cls, image: Image.Image) -> Self:
        """All of the picture."""
        return cls(image, Window.whole(*image.size))
