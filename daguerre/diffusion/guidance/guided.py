"""The places where guides act between a network's estimates and the one that a sampler gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..denoiser import Cond, Denoiser


class Guidance(Protocol):
    """What guides build on: `ClassifierFree`, or anything else with a positive and a negative side."""

    @property
    def inner(self) -> Denoiser: ...
    @property
    def negative(self) -> Cond: ...
    @property
    def scale(self) -> float: ...

    def positive(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """The estimate without the negative condition."""

    def estimates(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Positive and negative; the negative one comes last from the network: a batch's end, or the last call."""


# All tensors but sigma are (B, C, H, W).
# (x, sigma, positive, negative) -> the estimates that guidance shall go by
Pair = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# (x, sigma, cond, positive, negative) -> what is added to the guided estimate; negative is None where none was made
Term = Callable[[Tensor, Tensor, Cond, Tensor, Tensor | None], Tensor]
# (x, sigma, guided, positive, positive - negative) -> the estimate for the sampler
Finish = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Guided:
    """Guidance with guides round it. One call of it goes this way:

    1. the estimates under the positive and the negative condition, or the positive one alone where the scale is 1 or
       `alone` says so of the noise level;
    2. `pairs` change the two, one after the other, where there are two;
    3. guided = negative + scale * (positive - negative);
    4. `terms` add theirs, each made from the estimates of 1;
    5. `finishes` change the sum, one after the other.
    """

    guidance: Guidance
    pairs: tuple[Pair, ...] = ()
    terms: tuple[Term, ...] = ()
    finishes: tuple[Finish, ...] = ()
    alone: Callable[[Tensor], bool] = lambda sigma: False

    @property
    def scale(self) -> float:
        return self.guidance.scale

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        if self.scale == 1 or self.alone(sigma):
            guided = positive = self.guidance.positive(x, sigma, cond)
            negative, difference = None, positive.new_zeros(())
            first = positive
        else:
            first, negative = self.guidance.estimates(x, sigma, cond)
            positive, changed = self._paired(x, sigma, first, negative)
            difference = positive - changed
            guided = changed + self.scale * difference
        for term in self.terms:
            guided = guided + term(x, sigma, cond, first, negative)
        for finish in self.finishes:
            guided = finish(x, sigma, guided, positive, difference)
        return guided

    def estimates(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Positive and negative after 2; twice the positive one where it is alone."""
        if self.alone(sigma):
            positive = self.guidance.positive(x, sigma, cond)
            return positive, positive
        return self._paired(x, sigma, *self.guidance.estimates(x, sigma, cond))

    def _paired(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        for pair in self.pairs:
            positive, negative = pair(x, sigma, positive, negative)
        return positive, negative
