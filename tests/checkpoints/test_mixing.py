"""Ways to mix tensors, against formulas written out number by number."""

import math

import numpy as np
import pytest
import torch

from daguerre.checkpoints.mixing import add_difference, dare, slerp, ties, weighted_sum


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sums() -> None:
    a, b, c = (normal(5, 3, seed=i) for i in range(3))
    assert torch.allclose(weighted_sum(a, [b], 0.3), 0.7 * a + 0.3 * b)
    assert torch.equal(weighted_sum(a, [b], 0.0), a)
    assert torch.equal(weighted_sum(a, [b], 1.0), b)
    assert torch.allclose(add_difference(a, [b, c], 0.5), a + 0.5 * b - 0.5 * c)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_an_arc_keeps_lengths(ratio: float) -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    angle = ratio * math.pi / 2
    expected = torch.tensor([[2 * math.cos(angle), 0.0], [2 * math.sin(angle), 0.0]])
    assert torch.allclose(slerp(a, [b], ratio), expected, atol=1e-6)


def test_where_there_is_no_arc_it_is_a_sum() -> None:
    a = normal(4, 4)
    for b in (2 * a, -a, torch.zeros(4, 4)):
        mixed = slerp(a, [b], 0.25)
        if b.any():
            assert torch.allclose(mixed, 0.75 * a + 0.25 * b, atol=1e-6)
        assert mixed.isfinite().all()


def test_ties_number_by_number() -> None:
    """Trim, elect, merge, as the paper says; of one tuned model and all its numbers, it is that model."""
    base, tuned = normal(6, 5), [normal(6, 5, seed=i) for i in (1, 2, 3)]
    flat = [(one - base).flatten().tolist() for one in tuned]
    kept = round(0.4 * 30)
    trimmed = []
    for change in flat:
        least = sorted((abs(x) for x in change), reverse=True)[kept - 1]
        trimmed.append([x if abs(x) >= least else 0.0 for x in change])
    assert all(sum(x != 0 for x in change) == kept for change in trimmed)
    expected = []
    for start, *changes in zip(base.flatten().tolist(), *trimmed, strict=True):
        sign = np.sign(sum(changes))
        agreeing = [x for x in changes if x and np.sign(x) == sign]
        expected.append(start + 0.7 * (sum(agreeing) / len(agreeing) if agreeing else 0.0))
    assert torch.allclose(ties(base, tuned, 0.7, 0.4).flatten(), torch.tensor(expected), atol=1e-5)
    assert torch.allclose(ties(base, tuned[:1], 1.0, 1.0), tuned[0], atol=1e-6)


def test_dare_drops_and_enlarges() -> None:
    base, one = torch.zeros(200, 200), torch.ones(200, 200)
    mixed = dare(base, [one], 1.0, 0.25, "a.weight", 0)
    assert set(mixed.unique().tolist()) == {0.0, 4.0}
    assert abs(mixed.mean() - 1) < 0.03
    assert torch.equal(mixed, dare(base, [one], 1.0, 0.25, "a.weight", 0))
    for name, seed in (("b.weight", 0), ("a.weight", 1)):
        assert not torch.equal(mixed, dare(base, [one], 1.0, 0.25, name, seed))
    two = dare(base, [one, one], 1.0, 0.25, "a.weight", 0)
    assert set(two.unique().tolist()) == {0.0, 4.0, 8.0}, "each model is thinned out by itself"
    assert torch.allclose(dare(base, [one, 2 * one], 0.5, 1.0, "a", 0), torch.full((200, 200), 1.5))
