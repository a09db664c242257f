"""Noise depends on seed and place in the walk, and on nothing else."""

import pytest
import torch

from daguerre.diffusion.noise import Philox, brownian, brownian_tree, centered, fresh, initial, spherical

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


@pytest.mark.parametrize(
    "make",
    [
        fresh,
        lambda seeds, shape: fresh(seeds, shape, source="nv"),
        lambda seeds, shape: brownian(seeds, shape, LOW, HIGH),
        lambda seeds, shape: brownian_tree(seeds, shape, LOW, HIGH),
    ],
)
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
@pytest.mark.parametrize("make", [brownian, brownian_tree])
def test_increments_are_standard_normal(make, step) -> None:
    noise = make([5], (16, 64, 64), LOW, HIGH)(*levels(*step))
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("make", [brownian, brownian_tree])
def test_the_path_adds_up_and_forgets(make) -> None:
    """W(a, c) = W(a, b) + W(b, c); intervals apart are independent, overlapping ones share their overlap."""
    source = make([5], (16, 64, 64), LOW, HIGH)
    whole, first, second = (source(*levels(*pair)) for pair in [(9, 4), (9, 7), (7, 4)])
    assert torch.allclose(whole * 5**0.5, first * 2**0.5 + second * 3**0.5, atol=1e-5)
    assert (first * second).mean().item() == pytest.approx(0, abs=0.02)
    assert (whole * first).mean().item() == pytest.approx((2 / 5) ** 0.5, abs=0.02)
    assert torch.equal(source(*levels(4, 9)), -whole)


@pytest.mark.parametrize("make", [brownian, brownian_tree])
def test_the_path_is_the_same_whatever_is_visited_before(make) -> None:
    visited, untouched = make([5], SHAPE, LOW, HIGH), make([5], SHAPE, LOW, HIGH)
    for a, b in [(14.6, 3.3), (3.3, 0.4), (1.0, 6.0)]:
        visited(*levels(a, b))
    assert torch.equal(visited(*levels(8, 2)), untouched(*levels(8, 2)))


def test_the_numbers_of_cuda() -> None:
    """As published with A1111's generator for seed 0, and the two words of a key and the count of draws matter."""
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    generator = Philox(0)
    assert torch.allclose(generator((3, 4)), torch.tensor(expected), atol=1e-6)
    assert torch.equal(initial([0], (3, 4), "nv")[0], Philox(0)((3, 4)))
    second = generator((3, 4))
    assert torch.equal(fresh([0], (3, 4), source="nv")(*levels(2, 1))[0], second)
    assert not torch.equal(second, Philox(0)((3, 4)))
    assert not torch.equal(Philox(2**32)((3, 4)), Philox(0)((3, 4)))
    large = Philox(7)((4, 128, 128))
    assert large.mean().item() == pytest.approx(0, abs=0.01)
    assert large.std().item() == pytest.approx(1, abs=0.01)
    assert torch.isfinite(large).all()


def test_eta_noise_seed_delta() -> None:
    """From the first draw of another seed's generator on, as A1111: it was not used to begin with."""
    source = fresh([5], SHAPE, delta=31337)
    assert torch.equal(source(*levels(2, 1)), initial([5 + 31337], SHAPE))


def test_variation_is_a_way_along_an_arc() -> None:
    low, high = initial([1], SHAPE), initial([2], SHAPE)
    assert torch.allclose(spherical(0.0, low, high), low, atol=1e-6)
    assert torch.allclose(spherical(1.0, low, high), high, atol=1e-5)
    half = spherical(0.5, low, high)
    assert half.std().item() == pytest.approx(1, abs=0.03)  # the mean of two would have 0.7
    assert torch.equal(spherical(0.3, low, low), low)


def test_noise_of_another_size_lies_in_the_middle() -> None:
    """By the numbers of A1111, whose odd differences leave a place more at the start."""
    ground, small = torch.zeros(1, 1, 6, 9), torch.ones(1, 1, 4, 4)
    assert centered(small, ground)[0, 0].nonzero().tolist() == [[y, x] for y in range(1, 5) for x in range(2, 6)]
    large = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(centered(large, torch.zeros(1, 1, 4, 6)), large[..., 2:6, 1:7])
    odd = centered(large, torch.full((1, 1, 5, 8), -1.0))
    assert torch.equal(odd[..., :4, :], large[..., 2:6, :])
    assert (odd[..., 4:, :] == -1).all()
