"""What a picture shows and in which style, told by real pictures: the nearest ones, and linear probes.

Families of drawings share outlines, so that a picture's own drawing in another style of its family would give it away.
Whoever judges a picture of a concept in a family therefore never sees that concept in that family: not among the
nearest, nor in what its probe was fitted on. Drawn pictures are judged under the same rule as real ones.
"""

from collections.abc import Sequence
from hashlib import sha256
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .illustrations import Illustration
from .lite0 import Features

FOLDS = 5
CONCEPT_RIDGE, STYLE_RIDGE = 1.0, 0.1  # of unit vectors; the best of 0.01 to 10 on real training pictures


class Vectors(NamedTuple):
    """What judges go by, of N pictures."""

    style: Tensor  # (N, 384) unit vectors
    concept: Tensor  # (N, 1440) unit vectors


class Described:
    """Features as unit vectors, each channel standardized by its spread over real pictures."""

    def __init__(self, features: Features):
        self.scales = [(f.mean(dim=0), f.std(dim=0) + 1e-3) for f in features]

    def __call__(self, features: Features) -> Vectors:
        """Vectors of N pictures."""
        early, middle, top = (
            F.normalize((f - mean) / std, dim=1) for f, (mean, std) in zip(features, self.scales, strict=True)
        )
        return Vectors(torch.cat([early, middle], dim=1) / sqrt(2), torch.cat([middle, top], dim=1) / sqrt(2))


class ConceptJudge:
    """Ranks of the wanted concept among all that real pictures show; rank 1 is the best guess."""

    def __init__(self, vectors: Tensor, real: Sequence[Illustration]):
        """Unit vectors (N, D) of N real pictures. Those of no concept do not count."""
        places = [i for i, item in enumerate(real) if item.concept]
        self.real, self.vectors = [real[i] for i in places], vectors[places]
        self.names = sorted({item.concept for item in self.real})
        number = {name: i for i, name in enumerate(self.names)}
        self.labels = torch.tensor([number[item.concept] for item in self.real])
        self.number = number
        self.families: dict[str, set[str]] = {}
        for item in self.real:
            self.families.setdefault(item.concept, set()).add(item.family)
        folds = torch.tensor([fold(item.concept, item.family) for item in self.real])
        self.probes = [
            fit(self.vectors[folds != k], self.labels[folds != k], len(self.names), CONCEPT_RIDGE) for k in range(FOLDS)
        ]

    def judged(self, wanted: Illustration) -> bool:
        """Whether the concept is shown by another family, too."""
        return bool(self.families.get(wanted.concept, set()) - {wanted.family})

    def nearest(self, vectors: Tensor, wanted: Sequence[Illustration], *, family: bool = False) -> list[int]:
        """Ranks by the nearest real picture of each concept. `vectors`: (N, D), one for each wanted.

        `family`: other styles of the wanted drawing's family do count; only the wanted picture itself does not.
        """
        likeness = vectors @ self.vectors.T
        for row, item in zip(likeness, wanted, strict=True):
            same = [i for i in self._of(item.concept) if self.real[i].family == item.family]
            row[[i for i in same if not family or self.real[i].style == item.style]] = -torch.inf
        best = likeness.new_full((len(vectors), len(self.names)), -torch.inf)
        best.scatter_reduce_(1, self.labels.expand(len(vectors), -1), likeness, "amax")
        return self._ranks(best, wanted)

    def probed(self, vectors: Tensor, wanted: Sequence[Illustration]) -> list[int]:
        """Ranks by the linear probe that saw no picture of the wanted concept's drawing."""
        folds = [fold(item.concept, item.family) for item in wanted]
        scores = torch.stack([score(self.probes[k], v[None])[0] for k, v in zip(folds, vectors, strict=True)])
        return self._ranks(scores, wanted)

    def _of(self, concept: str) -> list[int]:
        found: list[int] = (self.labels == self.number[concept]).nonzero().flatten().tolist()
        return found

    def _ranks(self, scores: Tensor, wanted: Sequence[Illustration]) -> list[int]:
        own = scores[torch.arange(len(wanted)), [self.number[item.concept] for item in wanted]]
        ranks: list[int] = (scores > own[:, None]).sum(dim=1).add(1).tolist()
        return ranks


class StyleJudge:
    """Whether a picture has the wanted style, by probes that saw no picture of the wanted concept."""

    def __init__(self, vectors: Tensor, real: Sequence[Illustration]):
        """Unit vectors (N, D) of N real pictures."""
        self.names = sorted({item.style for item in real})
        labels = torch.tensor([self.names.index(item.style) for item in real])
        folds = torch.tensor([fold(item.concept or item.label) for item in real])
        self.probes = [fit(vectors[folds != k], labels[folds != k], len(self.names), STYLE_RIDGE) for k in range(FOLDS)]

    def told(self, vectors: Tensor, wanted: Sequence[Illustration]) -> list[str]:
        """The style of each picture (N, D)."""
        folds = [fold(item.concept or item.label) for item in wanted]
        found = [int(score(self.probes[k], v[None]).argmax()) for k, v in zip(folds, vectors, strict=True)]
        return [self.names[i] for i in found]


def fold(*group: str) -> int:
    """Which part of the pictures a group lies in, the same on every machine."""
    return sha256("|".join(group).encode()).digest()[0] % FOLDS


def fit(vectors: Tensor, labels: Tensor, classes: int, ridge: float) -> Tensor:
    """Linear probe (D + 1, classes) by least squares on one-hot labels, all classes weighing alike."""
    weights = 1 / labels.bincount(minlength=classes).clamp_min(1).double()[labels, None]
    weights /= weights.sum()
    x, y = vectors.double(), F.one_hot(labels, classes).double()
    middle, common = (weights * x).sum(dim=0), (weights * y).sum(dim=0)
    x, y = weights.sqrt() * (x - middle), weights.sqrt() * (y - common)
    fewer = len(x) < x.shape[1]  # examples than features: the dual form is the smaller one
    gram = x @ x.T if fewer else x.T @ x
    gram.diagonal().add_(ridge / vectors.shape[1])
    slopes: Tensor = x.T @ torch.linalg.solve(gram, y) if fewer else torch.linalg.solve(gram, x.T @ y)
    return torch.cat([slopes, (common - middle @ slopes)[None]]).float()


def score(probe: Tensor, vectors: Tensor) -> Tensor:
    """Scores (N, classes) of vectors (N, D)."""
    return vectors @ probe[:-1] + probe[-1]
