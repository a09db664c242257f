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
            positive = self.guidance.positive(x, sigma, cond)
            return self._made(x, sigma, cond, positive, None)
        return self._made(x, sigma, cond, *self.guidance.estimates(x, sigma, cond))

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """The guided estimate and the one that it was guided away from, before 2; samplers of CFG++ go by that.

        Twice what is guided where the positive estimate is alone, but for a scale of 1.
        """
        if self.alone(sigma):
            guided = self(x, sigma, cond)
            return guided, guided
        positive, negative = self.guidance.estimates(x, sigma, cond)
        return self._made(x, sigma, cond, positive, negative), negative

    def estimates(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Positive and negative after 2; twice the positive one where it is alone."""
        if self.alone(sigma):
            positive = self.guidance.positive(x, sigma, cond)
            return positive, positive
        return self._paired(x, sigma, *self.guidance.estimates(x, sigma, cond))

    def _made(self, x: Tensor, sigma: Tensor, cond: Cond, positive: Tensor, negative: Tensor | None) -> Tensor:
        """3 to 5, from the estimates of 1."""
        towards, guided, difference = positive, positive, positive.new_zeros(())
        if negative is not None:
            towards, changed = self._paired(x, sigma, positive, negative)
            difference = towards - changed
            guided = changed + self.scale * difference
        for term in self.terms:
            guided = guided + term(x, sigma, cond, positive, negative)
        for finish in self.finishes:
            guided = finish(x, sigma, guided, towards, difference)
        return guided

    def _paired(self, x: Tensor, sigma: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        for pair in self.pairs:
            positive, negative = pair(x, sigma, positive, negative)
        return positive, negative
