"""Guidance wraps a denoiser and leaves the loop alone."""

import pytest
import torch

from daguerre.diffusion.denoiser import Cond, spread
from daguerre.diffusion.guidance import ClassifierFree, Guided, Interval
from daguerre.diffusion.guidance.finishes import Rescale
from daguerre.diffusion.prediction import Epsilon, Velocity
from daguerre.diffusion.schedule import scaled_linear

LEVELS = scaled_linear()
SIGMA = LEVELS.sigmas[700]


class Counting:
    """A denoiser that leans towards the mean of its tokens and vector, and counts its calls."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, sigma, cond):
        self.batches.append(len(x))
        pull = cond.tokens.mean((1, 2)) + (0 if cond.vector is None else cond.vector.mean(1))
        extra = 0 if cond.concat is None else cond.concat.mean(1, keepdim=True)
        return x / (1 + spread(sigma, x)) + spread(pull, x) * x.sin() + extra


def cond(seed: int, tokens: int = 4, **fields) -> Cond:
    return Cond(torch.randn(2, tokens, 3, generator=torch.Generator().manual_seed(seed)), **fields)


@pytest.fixture
def x() -> torch.Tensor:
    return 5 * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def test_scale_1_is_the_bare_denoiser(x) -> None:
    inner = Counting()
    assert torch.equal(ClassifierFree(inner, cond(2), 1)(x, SIGMA, cond(1)), inner(x, SIGMA, cond(1)))
    assert inner.batches == [2, 2]


@pytest.mark.parametrize("fields", [{}, {"vector": torch.ones(2, 5)}, {"concat": torch.ones(2, 1, 6, 6)}])
@pytest.mark.parametrize("sigma", [SIGMA, LEVELS.sigmas[[3, 700]]], ids=["one level", "a level each"])
def test_guidance_extrapolates_in_one_call_or_two(x, fields, sigma) -> None:
    inner, positive, negative = Counting(), cond(1, **fields), cond(2, **fields)
    p, n = inner(x, sigma, positive), inner(x, sigma, negative)
    expected = n + 7.5 * (p - n)
    inner.batches.clear()
    assert torch.allclose(ClassifierFree(inner, negative, 7.5)(x, sigma, positive), expected, atol=1e-5)
    assert inner.batches == [4]
    assert torch.equal(ClassifierFree(inner, negative, 7.5, batched=False)(x, sigma, positive), expected)
    assert inner.batches == [4, 2, 2]


def test_prompts_of_unlike_length_take_two_calls(x) -> None:
    inner = Counting()
    guided = ClassifierFree(inner, cond(2, tokens=8), 3.0)(x, SIGMA, cond(1))
    p, n = inner(x, SIGMA, cond(1)), inner(x, SIGMA, cond(2, tokens=8))
    assert torch.equal(guided, n + 3 * (p - n))
    assert inner.batches[:2] == [2, 2]


def test_rescaling_by_nothing_is_plain_guidance(x) -> None:
    plain = ClassifierFree(Counting(), cond(2), 7.5)
    rescaled = Guided(plain, finishes=(Rescale(0.0, torch.ones_like),))(x, SIGMA, cond(1))
    assert torch.allclose(rescaled, plain(x, SIGMA, cond(1)), atol=1e-5)


@pytest.mark.parametrize("kind", [Epsilon, Velocity])
def test_rescaling_in_full_restores_the_contrast_of_the_output(x, kind) -> None:
    def network(x, t, tokens, vector):
        return x.cos() + spread(tokens.mean((1, 2)), x) * x

    inner = kind(network, LEVELS)
    guidance = ClassifierFree(inner, cond(2), 9.0)

    def output(x0: torch.Tensor) -> torch.Tensor:
        return x0 - inner.c_skip(SIGMA) * x

    rescaled = Guided(guidance, finishes=(Rescale(1.0, inner.c_skip),))(x, SIGMA, cond(1))
    positive = output(inner(x, SIGMA, cond(1)))
    assert torch.allclose(output(rescaled).std((1, 2, 3)), positive.std((1, 2, 3)), rtol=1e-4)
    assert not torch.allclose(rescaled, guidance(x, SIGMA, cond(1)), rtol=0.05)


def test_the_interval_is_closed_and_spares_calls(x) -> None:
    inner = Counting()
    low, high = LEVELS.sigmas[200].item(), LEVELS.sigmas[800].item()
    denoise = Interval(ClassifierFree(inner, cond(2), 5.0), inner, low, high)
    for t in (199, 200, 500, 800, 801):
        denoise(x, LEVELS.sigmas[t], cond(1))
    assert inner.batches == [2, 4, 4, 4, 2]
