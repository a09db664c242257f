"""What a training step sees of the data."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from ..diffusion.denoiser import Cond


class Batch(NamedTuple):
    """Some pictures of a step, on the run's device."""

    x0: Tensor  # (B, C, H, W) latents of unit variance
    cond: Cond  # of the captions, those that were dropped for guidance included
    weight: Tensor  # (B,) of each picture's loss
    captions: Sequence[str]
    mask: Tensor | None = None  # (B, 1, H, W): where the loss counts, 0 to 1


class Batches(Protocol):
    """The data of a run: a pure function of the step and the places in its batch."""

    def __call__(self, step: int, part: range) -> Batch: ...

    def empty(self, count: int) -> Cond:
        """The condition of the empty caption, for guidance: `count` times the same."""
