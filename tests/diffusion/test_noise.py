"""Noise depends on seed and place in the walk, and on nothing else."""

import pytest
import torch

from daguerre.diffusion.noise import brownian, fresh, initial

SHAPE = (4, 32, 32)
LOW, HIGH = 0.03, 14.6


def levels(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_noise_is_that_of_one_generator_per_picture() -> None:
    """As A1111 draws it with its random source CPU: the first draw to start from, then one per step."""
    generator = torch.Generator().manual_seed(1234)
    draws = [torch.randn(SHAPE, generator=generator) for _ in range(3)]
    assert torch.equal(initial([1234], SHAPE)[0], draws[0])
    source = fresh([1234], SHAPE)
    for draw in draws[1:]:
        assert torch.equal(source(*levels(9, 8))[0], draw)


@pytest.mark.parametrize("make", [fresh, lambda seeds, shape: brownian(seeds, shape, LOW, HIGH)])
def test_a_picture_does_not_know_its_batch(make) -> None:
    seeds = [7, 2**32 - 1, 0]
    batch, singles = make(seeds, SHAPE), [make([seed], SHAPE) for seed in seeds]
    for a, b in [(14.6, 10.0), (10.0, 2.0), (2.0, 0.03)]:
        together = batch(*levels(a, b))
        assert together.shape == (3, *SHAPE)
        assert torch.equal(together, torch.cat([single(*levels(a, b)) for single in singles]))
        assert not torch.equal(together[0], together[2])


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    initial([1], SHAPE)
    fresh([1], SHAPE)(*levels(2, 1))
    brownian([1], SHAPE, LOW, HIGH)(*levels(2, 1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("step", [(HIGH, 9.0), (9.0, 8.9), (0.2, LOW), (HIGH, LOW), (3.0, 5.0)])
def test_increments_are_standard_normal(step) -> None:
    noise = brownian([5], (16, 64, 64), LOW, HIGH)(*levels(*step))
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.01)


def test_the_path_adds_up_and_forgets() -> None:
    """W(a, c) = W(a, b) + W(b, c); intervals apart are independent, overlapping ones share their overlap."""
    source = brownian([5], (16, 64, 64), LOW, HIGH)
    whole, first, second = (source(*levels(*pair)) for pair in [(9, 4), (9, 7), (7, 4)])
    assert torch.allclose(whole * 5**0.5, first * 2**0.5 + second * 3**0.5, atol=1e-5)
    assert (first * second).mean().item() == pytest.approx(0, abs=0.02)
    assert (whole * first).mean().item() == pytest.approx((2 / 5) ** 0.5, abs=0.02)
    assert torch.equal(source(*levels(4, 9)), -whole)


def test_the_path_is_the_same_whatever_is_visited_before() -> None:
    visited, untouched = brownian([5], SHAPE, LOW, HIGH), brownian([5], SHAPE, LOW, HIGH)
    for a, b in [(14.6, 3.3), (3.3, 0.4), (1.0, 6.0)]:
        visited(*levels(a, b))
    assert torch.equal(visited(*levels(8, 2)), untouched(*levels(8, 2)))
