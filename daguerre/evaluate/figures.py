"""Figures with their uncertainty: an estimate, its 95 % interval, and of how many it was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np

Z = 1.96  # of a normal distribution, 95 % lie within so many deviations
REPEATS = 2000


class Estimate(NamedTuple):
    """A value with the interval that holds the truth in 95 of 100 cases; without one, low and high are the value."""

    value: float
    low: float
    high: float
    n: int  # pictures, prompts or pairs that it was taken of


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured of the model, and the same of real pictures."""

    section: str
    name: str
    model: Estimate | None  # None: a figure that only real pictures have, such as how far the judge can be trusted
    real: Estimate | None = None  # real pictures, judged likewise: the ceiling, or what to be close to
    ratio: Estimate | None = None  # model to real, where pictures come in pairs
    decoded: Estimate | None = None  # real pictures through the model's autoencoder: the ceiling of its U-Net
    percent: bool = True  # shares; other figures are plain numbers
    note: str = ""

    def told(self) -> dict[str, object]:
        """As JSON has it."""
        estimates = {"model": self.model, "real": self.real, "decoded": self.decoded, "ratio": self.ratio}
        plain = {name: e and e._asdict() for name, e in estimates.items()}
        return {"section": self.section, "name": self.name, **plain, "percent": self.percent, "note": self.note}


def share(right: Sequence[bool]) -> Estimate:
    """How many are right (E. B. Wilson, 1927). Raises ValueError for none."""
    n = _counted(right)
    p, whole = sum(right) / n, 1 + Z * Z / n
    middle, half = (p + Z * Z / (2 * n)) / whole, Z * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / whole
    return Estimate(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)), n)


def mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean, its interval by the bootstrap: percentiles of means of values drawn anew. ValueError for none."""
    found = np.asarray(values, dtype=np.float64)
    drawn = found[_again(_counted(values), seed)].mean(axis=1)
    return Estimate(float(found.mean()), *_percentiles(drawn), len(found))


def ratio(model: Sequence[float], real: Sequence[float], seed: int = 0) -> Estimate | None:
    """The model's mean divided by that of the real pictures of the same prompts, which are drawn anew together.

    None when no real picture has the quality that is counted. Raises ValueError when the numbers of pictures differ.
    """
    if len(model) != len(real):
        raise ValueError(f"{len(model)} pictures are to be compared with {len(real)} real ones, one by one")
    a, b = np.asarray(model, dtype=np.float64), np.asarray(real, dtype=np.float64)
    if not b.sum():
        return None
    places = _again(_counted(model), seed)
    below = b[places].mean(axis=1)
    drawn = a[places].mean(axis=1)[below > 0] / below[below > 0]
    return Estimate(float(a.mean() / b.mean()), *_percentiles(drawn), len(a))


def blockwise(whole: float, without: Sequence[float], n: int) -> Estimate:
    """A value, given the values without each of some equal blocks: the jackknife, for what is costly to compute."""
    blocks = np.asarray(without, dtype=np.float64)
    error = sqrt((len(blocks) - 1) / len(blocks) * float(((blocks - blocks.mean()) ** 2).sum()))
    return Estimate(whole, whole - Z * error, whole + Z * error, n)


def _counted(values: Sequence[object]) -> int:
    if not len(values):
        raise ValueError("nothing was counted, so there is no figure")
    return len(values)


def _again(n: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(n, size=(REPEATS, n))


def _percentiles(drawn: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return low, high
