"""Networks on latents larger than those they know: in overlapping tiles, joined in each call.

MultiDiffusion (arXiv:2302.08113, equation 7): of all tiles that show a place, the weighted mean of what is predicted
there. Weights fall towards a tile's edges (arXiv:2302.02412, section 3), so that no edge shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from ..request import RequestError
from .prediction import Network


@dataclass(frozen=True)
class Tiles:
    """A network that calls another one for every tile."""

    network: Network
    size: int  # of a tile, in latent pixels along each side
    overlap: int  # latent pixels that neighbors have in common, at least

    def __call__(self, x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None, **told: Tensor) -> Tensor:
        """The prediction (B, C, H, W). Raises RequestError beside a control, whose hint is of the whole picture."""
        if told:
            raise RequestError("a picture in tiles cannot be steered by a ControlNet or T2I-Adapter; leave one out")
        height, width = x.shape[-2:]
        down, across = (window(min(self.size, side), self.overlap).to(x.device) for side in (height, width))
        weight = down[:, None] * across
        total, weights = None, torch.zeros(height, width, device=x.device)
        for top in places(height, self.size, self.overlap):
            for left in places(width, self.size, self.overlap):
                rows, columns = slice(top, top + len(down)), slice(left, left + len(across))
                made = self.network(x[..., rows, columns].contiguous(), t, tokens, vector)
                total = made.new_zeros(*made.shape[:2], height, width) if total is None else total
                total[..., rows, columns] += weight * made
                weights[rows, columns] += weight
        assert total is not None
        return total / weights


def places(length: int, size: int, overlap: int) -> Iterator[int]:
    """Where tiles begin: as few as cover the length, spread evenly."""
    count = 1 if length <= size else ceil((length - overlap) / max(1, size - overlap))
    return (round(i * (length - size) / max(1, count - 1)) for i in range(count))


def window(size: int, overlap: int) -> Tensor:
    """Weights (size,) of a tile's rows or columns: 1, but rising from its edges over the overlap."""
    inside = (torch.arange(size) + 0.5) / max(overlap, 0.5)
    return torch.minimum(inside, inside.flip(0)).clamp(max=1)
