"""Distances with known answers."""

import pytest
import torch
from torch.nn import functional as F

from daguerre.evaluate.distances import COMMON, Crowd, nearest, spread, threshold


def crowd(n, seed, mean=0.0, scale=1.0, width=6):
    return mean + scale * torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_frechet_distance_of_two_normal_distributions():
    """Of independent coordinates: the means' squared distance, and that of the deviations."""
    real = Crowd(crowd(40_000, 0))
    found = real.estimate(crowd(40_000, 1, mean=0.5, scale=2.0))
    assert found.value == pytest.approx(6 * (0.5**2 + (2 - 1) ** 2), rel=0.03)
    assert found.low < 6 * 1.25 < found.high
    assert real.distance(crowd(40_000, 0)) == pytest.approx(0, abs=1e-9)


def test_fewer_pictures_than_features():
    real = Crowd(crowd(30, 0, width=50))
    near, far = (real.distance(crowd(20, 1, mean=mean, width=50)) for mean in (0, 1))
    assert 0 < near < far


def test_spread():
    one = F.normalize(torch.randn(1, 40), dim=1)
    assert spread(one.repeat(5, 1)) == pytest.approx(0, abs=1e-6)
    assert spread(torch.eye(5)) == pytest.approx(1)
    vectors = F.normalize(torch.randn(7, 40), dim=1)
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(7) for j in range(i)]
    assert spread(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)


def test_a_memorizer_is_caught_and_an_inventor_is_not():
    random = torch.Generator().manual_seed(0)
    train, held_out, invented = (F.normalize(torch.randn(300, 40, generator=random), dim=1) for _ in range(3))
    copies = F.normalize(train[:60] + 0.02 * torch.randn(60, 40, generator=random), dim=1)
    limit = threshold(nearest(held_out, train))
    caught = nearest(copies, train)
    assert [near.place for near in caught] == list(range(60))
    assert all(near.distance < limit for near in caught)
    assert sum(near.distance < limit for near in nearest(invented, train)) / 300 < 3 * COMMON
