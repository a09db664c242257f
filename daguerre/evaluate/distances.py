"""Distances of many pictures: how various they are, how near to what was learned, how far one crowd is from another."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .figures import Estimate, blockwise

BLOCKS = 10
COMMON = 0.05  # share of real held-out pictures that are nearer to a training picture than the threshold


def spread(vectors: Tensor) -> float:
    """Mean distance (1 - cosine) of all pairs of unit vectors (N, D), N at least 2."""
    n = len(vectors)
    return 1 - float((vectors.sum(dim=0).square().sum() - n) / (n * (n - 1)))


class Near(NamedTuple):
    """The nearest training picture."""

    distance: float  # 1 - cosine: 0 for the same features
    place: int


def nearest(vectors: Tensor, known: Tensor) -> list[Near]:
    """For each of unit vectors (N, D) the nearest of `known` (M, D)."""
    likeness, places = (vectors @ known.T).max(dim=1)
    return [Near(1 - value, place) for value, place in zip(likeness.tolist(), places.tolist(), strict=True)]


def threshold(held_out: Sequence[Near]) -> float:
    """A distance that only COMMON of real pictures, which no training saw, fall below."""
    return float(torch.tensor([near.distance for near in held_out]).quantile(COMMON))


class Crowd:
    """Real pictures as a normal distribution of features (N, D), for Frechet distances (arXiv:1706.08500).

    By EfficientNet-Lite0, not Inception: called FD-Lite0, and no FID is comparable with it.
    """

    def __init__(self, features: Tensor):
        x = features.double()
        self.mean = x.mean(dim=0)
        # A root of the covariance: root.T @ root, of no more rows than there are pictures or features.
        self.root = torch.linalg.qr((x - self.mean) / (len(x) - 1) ** 0.5, mode="r").R
        self.total = float(self.root.square().sum())

    def distance(self, features: Tensor) -> float:
        """Squared Frechet distance of features (N, D), N at least 2, to this crowd; smaller samples look farther."""
        x = features.double()
        centered = (x - x.mean(dim=0)) / (len(x) - 1) ** 0.5
        # The trace of the root of both covariances' product is the sum of these singular values.
        shared = float(torch.linalg.svdvals(centered @ self.root.T).sum())
        gap = float((x.mean(dim=0) - self.mean).square().sum())
        return gap + float(centered.square().sum()) + self.total - 2 * shared

    def estimate(self, features: Tensor) -> Estimate:
        """The distance, its interval by the jackknife over blocks."""
        n, blocks = len(features), min(BLOCKS, len(features) // 2)
        places = torch.arange(n)
        without = [self.distance(features[places % blocks != k]) for k in range(blocks)] if blocks > 1 else []
        whole = self.distance(features)
        return blockwise(whole, without, n) if without else Estimate(whole, whole, whole, n)
