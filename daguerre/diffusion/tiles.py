"""Predictions for latents larger than a network knows: in overlapping tiles, joined in each call.

MultiDiffusion (arXiv:2302.08113, equation 7): of all tiles that show a place, the weighted mean of what is predicted
there. Weights fall towards a tile's edges (arXiv:2302.02412, section 3), so that no edge shows.
"""

from collections.abc import Callable, Iterator
from math import ceil

import torch
from torch import Tensor


def joined(
    predict: Callable[[Tensor, int, int], Tensor], x: Tensor, size: int, overlap: int, meet: tuple[bool, bool]
) -> Tensor:
    """The prediction (B, C, H, W) for x, joined from those for its tiles, each told with its first row and column.

    A tile has `size` latent pixels along each side, and at least `overlap` of them in common with its neighbors.
    `meet` is for pictures that repeat: whether the last row is a neighbor of the first, and the last column.
    """
    height, width = x.shape[-2:]
    down, across = (window(min(size, side), overlap).to(x.device) for side in (height, width))
    weight = down[:, None] * across
    total, weights = None, torch.zeros(height, width, device=x.device)
    for top in places(height, size, overlap, around=meet[0]):
        for left in places(width, size, overlap, around=meet[1]):
            rows = (top + torch.arange(len(down)))[:, None] % height
            columns = (left + torch.arange(len(across))) % width
            made = predict(x[..., rows, columns].contiguous(), top, left)
            total = made.new_zeros(*made.shape[:2], height, width) if total is None else total
            total[..., rows, columns] += weight * made
            weights[rows, columns] += weight
    assert total is not None
    return total / weights


def places(length: int, size: int, overlap: int, *, around: bool = False) -> Iterator[int]:
    """Where tiles begin: as few as cover the length, spread evenly; around a circle, the last overlaps the first."""
    if around and length > size:
        count = ceil(length / max(1, size - overlap))
        return (i * length // count for i in range(count))
    count = 1 if length <= size else ceil((length - overlap) / max(1, size - overlap))
    return (round(i * (length - size) / max(1, count - 1)) for i in range(count))


def window(size: int, overlap: int) -> Tensor:
    """Weights (size,) of a tile's rows or columns: 1, but rising from its edges over the overlap."""
    inside = (torch.arange(size) + 0.5) / max(overlap, 0.5)
    return torch.minimum(inside, inside.flip(0)).clamp(max=1)
