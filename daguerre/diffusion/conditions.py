"""Conditions that change from call to call, and several at once: Denoisers made of Denoisers."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .denoiser import Cond, Denoiser, with_negative
from .guidance import ClassifierFree


class Conditions(NamedTuple):
    """What steers a denoiser up to one of its calls, from where the conditions before end."""

    last: int  # the 0-based call after which others hold
    positive: tuple[tuple[Cond, float], ...]  # with weights; at least one
    negative: Cond

    def beside(self, concat: Tensor | None) -> "Conditions":
        """The same, with these channels (1, C, H, W) beside the latents."""
        positive = tuple((cond._replace(concat=concat), weight) for cond, weight in self.positive)
        return Conditions(self.last, positive, self.negative._replace(concat=concat))

    def guidance(self, inner: Denoiser, scale: float, *, batched: bool) -> ClassifierFree:
        """Guidance that is to be called with the first of the positive conditions."""
        (_, weight), *others = self.positive
        if weight == 1 and not others:
            return ClassifierFree(inner, self.negative, scale, batched)
        return Composed(inner, self.negative, scale, batched, weight, tuple(others))


@dataclass(frozen=True)
class Composed(ClassifierFree):
    """Guidance towards several conditions at once: conjunction of concepts, arXiv:2206.01714, section 4.2.

    The positive estimate is negative + sum of weight * (estimate under a condition - negative).
    """

    weight: float = 1.0  # of the condition that it is called with
    others: tuple[tuple[Cond, float], ...] = ()

    def positive(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """The composed estimate; it hangs on the negative condition, too."""
        return self.estimates(x, sigma, cond)[0]

    def estimates(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """The composed positive estimate, and that under the negative condition."""
        weights = (self.weight, *(weight for _, weight in self.others))
        conds = [cond, *(other for other, _ in self.others), self.negative]
        *parts, negative = self._each(x, sigma, conds)
        positive = negative
        for part, weight in zip(parts, weights, strict=True):
            positive = positive + weight * (part - negative)
        return positive, negative

    def _each(self, x: Tensor, sigma: Tensor, conds: Sequence[Cond]) -> Sequence[Tensor]:
        """The inner denoiser under each condition; in one call where their shapes are equal."""
        shapes = {tuple(getattr(value, "shape", None) for value in cond) for cond in conds}
        if not self.batched or len(shapes) > 1:
            return [self.inner(x, sigma, cond) for cond in conds]
        joined = Cond._make(None if values[0] is None else torch.cat(values) for values in zip(*conds, strict=True))
        count = len(conds)
        sigma = sigma.repeat(count) if sigma.ndim else sigma
        return self.inner(torch.cat([x] * count), sigma, joined).chunk(count)


@dataclass
class ByCall:
    """Hands each call to the denoiser whose turn it is, with that one's own condition; make one for each picture.

    The last one stays, however often a sampler calls.
    """

    turns: Sequence[tuple[int, Denoiser, Cond]]  # the 0-based call up to which it is used, ascending
    calls: int = field(default=0, init=False)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        """An estimate; `cond` is not used."""
        denoise, own = self._next()
        return denoise(x, sigma, own)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """As `denoiser.with_negative`; `cond` is not used."""
        denoise, own = self._next()
        return with_negative(denoise, x, sigma, own)

    def _next(self) -> tuple[Denoiser, Cond]:
        turn = bisect_left([last for last, _, _ in self.turns], self.calls)
        self.calls += 1
        _, denoise, own = self.turns[min(turn, len(self.turns) - 1)]
        return denoise, own
