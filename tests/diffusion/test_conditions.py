import pytest
import torch

from daguerre.diffusion.conditions import ByCall, Composed, Conditions
from daguerre.diffusion.denoiser import Cond, with_negative
from daguerre.diffusion.guidance import ClassifierFree

X, SIGMA = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0)), torch.tensor(3.0)


def cond(value, tokens=3):
    return Cond(torch.full((2, tokens, 1), float(value)))


class Shown:
    """A denoiser whose estimate is its condition's value, and that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, sigma, cond):
        self.calls += 1
        return x * 0 + cond.tokens.mean((1, 2))[:, None, None, None]


def test_the_estimate_is_the_negative_one_and_the_weighed_ways_from_it():
    composed = Composed(Shown(), cond(1), 1.0, weight=2.0, others=((cond(7), -0.5), (cond(2), 1.0)))
    positive, negative = composed.estimates(X, SIGMA, cond(4))
    assert torch.equal(negative, torch.ones_like(X))
    assert torch.equal(positive, torch.full_like(X, 1 + 2 * (4 - 1) - 0.5 * (7 - 1) + (2 - 1)))
    assert torch.equal(composed(X, SIGMA, cond(4)), positive)


@pytest.mark.parametrize("batched", [True, False])
def test_guidance_goes_on_from_the_composed_estimate(batched):
    inner = Shown()
    composed = Composed(inner, cond(1), 3.0, batched, others=((cond(7), 0.5),))
    assert torch.equal(composed(X, SIGMA, cond(4)), torch.full_like(X, 1 + 3 * (3 + 0.5 * 6)))
    assert inner.calls == (1 if batched else 3)


def test_conditions_of_other_length_are_asked_one_by_one():
    inner = Shown()
    composed = Composed(inner, cond(1), 3.0, others=((cond(7, tokens=6), 0.5),))
    assert torch.equal(composed(X, SIGMA.expand(2), cond(4)), torch.full_like(X, 1 + 3 * (3 + 0.5 * 6)))
    assert inner.calls == 3


def test_one_condition_of_weight_one_is_classifier_free_guidance():
    def denoise(x, sigma, cond):
        return x * cond.tokens.mean((1, 2))[:, None, None, None] / 7

    plain, composed = (kind(denoise, cond(1.3), 7.5) for kind in (ClassifierFree, Composed))
    torch.testing.assert_close(composed(X, SIGMA, cond(4)), plain(X, SIGMA, cond(4)))


def test_an_entry_is_used_up_to_its_last_call():
    asked = []

    def denoise(x, sigma, cond):
        asked.append(cond.tokens[0, 0, 0].item())
        return x

    scheduled = ByCall([(2, denoise, cond(1)), (3, denoise, cond(2)), (5, denoise, cond(3))])
    for _ in range(8):
        scheduled(X, SIGMA, cond(9))
    assert asked == [1, 1, 1, 2, 3, 3, 3, 3]


def test_channels_beside_the_latents_reach_every_condition():
    canvas = torch.ones(2, 1, 8, 8)
    beside = Conditions(5, ((cond(1), 1.0), (cond(2), 0.5)), cond(3)).beside(canvas)
    assert beside.last == 5
    assert [weight for _, weight in beside.positive] == [1.0, 0.5]
    assert all(c.concat is canvas for c in (*(c for c, _ in beside.positive), beside.negative))


def test_samplers_that_go_by_the_negative_estimate_get_that_of_the_turn():
    turns = [(0, ClassifierFree(Shown(), cond(1), 2.0), cond(4)), (9, ClassifierFree(Shown(), cond(3), 2.0), cond(5))]
    scheduled = ByCall(turns)
    for guided, negative in ((7, 1), (7, 3), (7, 3)):
        found = with_negative(scheduled, X, SIGMA, cond(9))
        assert [value.mean().item() for value in found] == [guided, negative]
