"""Places for the things of a scene: boxes (left, top, right, bottom) of pixels that never overlap."""

from collections.abc import Sequence
from random import Random

Box = tuple[int, int, int, int]
Side = tuple[int, int]  # width and height of a drawing, of which only the ratio counts

RELATIONS = ("left of", "right of", "above", "below")
SHARES = {1: (0.55, 0.95), 2: (0.42, 0.6), 3: (0.34, 0.48), 4: (0.3, 0.44)}  # of the canvas, a thing's longer side
GAP = 2  # pixels that stay free between things and at the edge
TRIES = 40


def scattered(sides: Sequence[Side], size: int, rng: Random) -> list[Box]:
    """Boxes anywhere on a canvas of `size` pixels, all things of about one size, as large as there is room."""
    low, high = SHARES[min(len(sides), max(SHARES))]
    share = rng.uniform(low, high)
    while True:
        for _ in range(TRIES):
            boxes = _placed(sides, size, share, rng)
            if boxes:
                return boxes
        share *= 0.93


def _placed(sides: Sequence[Side], size: int, share: float, rng: Random) -> list[Box] | None:
    boxes: list[Box] = []
    for side in sides:
        width, height = _fitted(side, share * size * rng.uniform(0.92, 1.0))
        for _ in range(8):
            left, top = rng.randint(GAP, size - GAP - width), rng.randint(GAP, size - GAP - height)
            box = left, top, left + width, top + height
            if not any(_touch(box, other) for other in boxes):
                boxes.append(box)
                break
        else:
            return None
    return boxes


def beside(sides: Sequence[Side], size: int, relation: str, rng: Random) -> list[Box]:
    """Two boxes of which the first is `relation` the second: apart along one axis, about level on the other."""
    across = relation in ("left of", "right of")
    share = rng.uniform(0.4, 0.47)
    drift = int(0.12 * size)
    boxes = []
    for index, side in enumerate(sides):
        width, height = _fitted(side, share * size * rng.uniform(0.92, 1.0))
        low = (relation in ("left of", "above")) == (index == 0)
        along, over = (width, height) if across else (height, width)
        room = size // 2 - 2 * GAP - along
        start = rng.randint(0, max(room, 0)) + (GAP if low else size // 2 + GAP)
        middle = (size - over) // 2
        shift = max(GAP, min(size - GAP - over, middle + rng.randint(-drift, drift)))
        left, top = (start, shift) if across else (shift, start)
        boxes.append((left, top, left + width, top + height))
    return boxes


def _fitted(side: Side, longest: float) -> Side:
    width, height = side
    scale = longest / max(side)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] + GAP and other[0] < one[2] + GAP and one[1] < other[3] + GAP and other[1] < one[3] + GAP
