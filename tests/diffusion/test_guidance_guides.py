"""Guides round classifier-free guidance: what each is at its neutral setting, what it does, and in which order."""

from dataclasses import replace

import pytest
import torch

from daguerre.diffusion.denoiser import Cond, with_negative
from daguerre.diffusion.guidance import ClassifierFree, Guided
from daguerre.diffusion.guidance.blur import blur
from daguerre.diffusion.guidance.finishes import COURSES, Course, Rescale, Thresholded, ZeroAbove
from daguerre.diffusion.guidance.pairs import AdaptiveProjected, Perpendicular, Tangential, ZeroStar, dot
from daguerre.diffusion.guidance.terms import Against, SelfAttention
from daguerre.diffusion.prediction import Epsilon
from daguerre.diffusion.schedule import scaled_linear
from tests.diffusion.test_guidance import SIGMA, Counting, cond

C_SKIP = Epsilon.c_skip
INNER = Counting()
PLAIN = ClassifierFree(INNER, cond(2), 7.5)
WEAK = ClassifierFree(lambda x, sigma, cond: x.tanh(), cond(2), 7.5)


@pytest.fixture
def x() -> torch.Tensor:
    return 5 * torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def thresholded(mimic: float, percentile: float = 1.0, mode: str = "constant", share: float = 0.5) -> Thresholded:
    return Thresholded(7.5, Course(7.5), Course(mimic, 1.0, mode), percentile, lambda sigma: share)


def attention(x: torch.Tensor) -> torch.Tensor:
    return torch.arange(9.0).reshape(1, 1, 3, 3).expand(len(x), -1, -1, -1) / 4


NEUTRAL = {
    "no guide": Guided(PLAIN),
    "projection": Guided(PLAIN, pairs=(AdaptiveProjected(1.0, 0.0, 0.0),)),
    "projection, long threshold": Guided(PLAIN, pairs=(AdaptiveProjected(1.0, 1e6, 0.0),)),
    "against, weighed 0": Guided(PLAIN, terms=(Against(WEAK, lambda sigma: 0.0),)),
    "against itself": Guided(PLAIN, terms=(Against(replace(PLAIN, batched=False), lambda sigma: 3.0),)),
    "self-attention, weighed 0": Guided(PLAIN, terms=(SelfAttention(PLAIN, attention, 0.0, 1.0, 1.0),)),
    "thresholds of its own scale": Guided(PLAIN, finishes=(thresholded(7.5),)),
    "rescaled by nothing": Guided(PLAIN, finishes=(Rescale(0.0, C_SKIP),)),
    "zero above all": Guided(PLAIN, finishes=(ZeroAbove(99.0, C_SKIP),)),
}
STRONG = {
    "eta": Guided(PLAIN, pairs=(AdaptiveProjected(0.0, 0.0, 0.0),)),
    "threshold": Guided(PLAIN, pairs=(AdaptiveProjected(1.0, 0.2, 0.0),)),
    "zero star": Guided(PLAIN, pairs=(ZeroStar(C_SKIP),)),
    "tangential": Guided(PLAIN, pairs=(Tangential(C_SKIP),)),
    "perpendicular": Guided(PLAIN, pairs=(Perpendicular(INNER, cond(3), 1.0),)),
    "against": Guided(PLAIN, terms=(Against(WEAK, lambda sigma: 2.0),)),
    "self-attention": Guided(PLAIN, terms=(SelfAttention(PLAIN, attention, 0.75, 1.0, 1.0),)),
    "mimic": Guided(PLAIN, finishes=(thresholded(3.0),)),
    "percentile": Guided(PLAIN, finishes=(thresholded(3.0, 0.8),)),
    "mode": Guided(PLAIN, finishes=(thresholded(7.5, mode="cosine down"),)),
    "rescale": Guided(PLAIN, finishes=(Rescale(0.7, C_SKIP),)),
    "zero": Guided(PLAIN, finishes=(ZeroAbove(1.0, C_SKIP),)),
    "skip": Guided(PLAIN, alone=lambda sigma: True),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_guide_is_plain_guidance_to_the_bit(x, name) -> None:
    assert torch.equal(NEUTRAL[name](x, SIGMA, cond(1)), PLAIN(x, SIGMA, cond(1)))


@pytest.mark.parametrize("name", STRONG)
def test_every_guide_changes_the_estimate(x, name) -> None:
    difference = STRONG[name](x, SIGMA, cond(1)) - PLAIN(x, SIGMA, cond(1))
    assert difference.isfinite().all()
    assert difference.abs().max() > 0.01


@pytest.mark.parametrize("name", [*NEUTRAL, *STRONG])
def test_guides_at_scale_1_do_without_the_negative(x, name) -> None:
    inner = Counting()
    plain = ClassifierFree(inner, cond(2), 1.0)
    guided = replace({**NEUTRAL, **STRONG}[name], guidance=plain)
    estimate = guided(x, SIGMA, cond(1))
    assert estimate.isfinite().all()
    assert inner.batches == [2]
    if not (guided.terms or guided.finishes):
        assert torch.equal(estimate, inner(x, SIGMA, cond(1)))


def test_the_momentum_of_projection_lasts_for_one_picture(x) -> None:
    def walk() -> list[torch.Tensor]:
        guided = Guided(PLAIN, pairs=(AdaptiveProjected(1.0, 0.0, -0.5),))
        return [guided(x, SIGMA, cond(1)) for _ in range(3)]

    first, second, third = walk()
    positive, negative = PLAIN.estimates(x, SIGMA, cond(1))
    d = positive - negative
    for made, momentum in ((first, 1), (second, 0.5), (third, 0.75)):
        assert torch.allclose(made, positive + 6.5 * momentum * d, atol=1e-4)
    assert torch.equal(walk()[2], third)


def test_projection_takes_away_what_lies_along_the_positive_estimate(x) -> None:
    positive, _ = PLAIN.estimates(x, SIGMA, cond(1))
    made = Guided(PLAIN, pairs=(AdaptiveProjected(0.0, 0.0, 0.0),))(x, SIGMA, cond(1))
    assert dot(made - positive, positive).abs().max() < 1e-3
    short = Guided(PLAIN, pairs=(AdaptiveProjected(1.0, 0.2, 0.0),))(x, SIGMA, cond(1))
    assert torch.allclose((short - positive).flatten(1).norm(dim=1), torch.tensor(6.5 * 0.2), rtol=1e-4)


def test_zero_star_leaves_the_shortest_difference(x) -> None:
    positive, negative = ZeroStar(C_SKIP)(x, SIGMA, *PLAIN.estimates(x, SIGMA, cond(1)))
    assert dot(positive - negative, negative - x).abs().max() < 1e-3


def test_perp_neg_keeps_what_the_prompt_asks_for(x) -> None:
    empty = INNER(x, SIGMA, cond(3))
    p = PLAIN.estimates(x, SIGMA, cond(1))[0] - empty
    guided = Guided(PLAIN, pairs=(Perpendicular(INNER, cond(3), 5.0),))(x, SIGMA, cond(1))
    along = dot(guided - empty, p) / dot(p, p)
    assert torch.allclose(along.float(), torch.tensor(7.5), rtol=1e-4)


def test_perp_neg_of_an_empty_negative_is_plain_guidance(x) -> None:
    plain = replace(PLAIN, batched=False)
    guided = Guided(plain, pairs=(Perpendicular(INNER, PLAIN.negative, 5.0),))
    assert torch.equal(guided(x, SIGMA, cond(1)), plain(x, SIGMA, cond(1)))


def test_thresholds_bring_a_high_scale_into_the_range_of_a_low_one(x) -> None:
    low, high = (replace(PLAIN, scale=scale)(x, SIGMA, cond(1)) for scale in (3.0, 7.5))
    made = Guided(PLAIN, finishes=(thresholded(3.0),))(x, SIGMA, cond(1))

    def reach(estimate: torch.Tensor) -> torch.Tensor:
        flat = estimate.flatten(2)
        return (flat - flat.mean(2, keepdim=True)).abs().amax(2)

    assert torch.allclose(reach(made), reach(low).minimum(reach(high)), rtol=1e-4)
    clipped = Guided(PLAIN, finishes=(thresholded(0.5, 0.5),))(x, SIGMA, cond(1)).flatten(2)
    furthest = clipped == clipped.amax(2, keepdim=True)
    assert (furthest.sum(2) > 1).any()  # several values were clipped to the same


def test_the_guided_scale_runs_its_course_as_well(x) -> None:
    def made(share: float) -> torch.Tensor:
        finish = Thresholded(7.5, Course(7.5, 2.5, "linear down"), Course(99.0), 1.0, lambda sigma: share)
        return Guided(PLAIN, finishes=(finish,))(x, SIGMA, cond(1))

    for share, scale in ((0.0, 7.5), (0.4, 5.5), (1.0, 2.5)):
        assert torch.allclose(made(share), replace(PLAIN, scale=scale)(x, SIGMA, cond(1)), atol=1e-4)


def test_courses_begin_and_end_where_their_names_say() -> None:
    for name in COURSES:
        course = Course(9.0, 1.0, name)
        assert course.at(0.0) == (1.0 if name.endswith("up") else 9.0)
        if "half" not in name:
            assert course.at(1.0) == pytest.approx({"n": 1.0, "p": 9.0, "t": 9.0}[name[-1]])
    assert Course(9.0, 1.0, "linear down").at(0.25) == 7.0
    assert Course(9.0, 1.0, "half cosine down").at(1.0) == pytest.approx(1 + 8 * 0.5403023)


def test_self_attention_guidance_blurs_where_the_network_looks(x) -> None:
    seen = []

    def inner(x: torch.Tensor, sigma: torch.Tensor, cond: Cond) -> torch.Tensor:
        seen.append((x, cond))
        return x / 2 + cond.tokens.mean()

    guidance = ClassifierFree(inner, cond(2), 5.0, batched=False)
    Guided(guidance, terms=(SelfAttention(guidance, attention, 0.75, 1.0, 1.0),))(x, SIGMA, cond(1))
    (_, _), (_, _), (noisy, negative) = seen
    assert negative is guidance.negative
    changed = (noisy != x).all(1)
    looked_at = torch.nn.functional.interpolate((attention(x) > 1).float(), (6, 6))[:, 0].bool()
    assert torch.equal(changed, looked_at)


def test_blur_keeps_the_mean_and_mirrors_the_edges(x) -> None:
    flat = torch.ones(1, 2, 5, 7)
    assert torch.allclose(blur(flat, 2.0), flat)
    assert torch.allclose(blur(x, float("inf")), x.mean((-2, -1), keepdim=True).expand_as(x))
    assert blur(x, 1.0).std() < 0.6 * x.std()
    assert torch.allclose(blur(x.transpose(-1, -2), 1.0), blur(x, 1.0).transpose(-1, -2), atol=1e-6)
    assert torch.equal(blur(torch.ones(1, 1, 1, 1), 3.0), torch.ones(1, 1, 1, 1))


def test_calls_are_as_many_as_documented(x) -> None:
    inner = Counting()
    plain = ClassifierFree(inner, cond(2), 7.5)
    weak = Counting()
    guides = {
        "pair": (Guided(plain, pairs=(ZeroStar(C_SKIP),)), [4], []),
        "perp": (Guided(plain, pairs=(Perpendicular(inner, cond(3), 1.0),)), [4, 2], []),
        "against": (Guided(plain, terms=(Against(replace(plain, inner=weak), lambda sigma: 1.0),)), [4], [2]),
        "skip": (Guided(plain, alone=lambda sigma: True), [2], []),
    }
    for guided, calls, weak_calls in guides.values():
        inner.batches.clear()
        weak.batches.clear()
        guided(x, SIGMA, cond(1))
        assert (inner.batches, weak.batches) == (calls, weak_calls)


def test_estimates_are_those_that_guidance_goes_by(x) -> None:
    guided = Guided(PLAIN, pairs=(AdaptiveProjected(0.0, 3.0, 0.0),))
    positive, negative = guided.estimates(x, SIGMA, cond(1))
    assert torch.equal(negative + guided.scale * (positive - negative), guided(x, SIGMA, cond(1)))
    alone = replace(guided, alone=lambda sigma: bool(sigma > 1))
    assert torch.equal(*alone.estimates(x, scaled_linear().sigmas[999], cond(1)))


def test_cfgpp_samplers_get_what_was_guided_away_from(x) -> None:
    guided = Guided(PLAIN, pairs=(ZeroStar(C_SKIP),), terms=(Against(WEAK, lambda sigma: 2.0),))
    made, negative = with_negative(guided, x, SIGMA, cond(1))
    assert torch.equal(made, guided(x, SIGMA, cond(1)))
    assert torch.equal(negative, PLAIN.estimates(x, SIGMA, cond(1))[1])
    made, negative = with_negative(replace(guided, guidance=replace(PLAIN, scale=1.0)), x, SIGMA, cond(1))
    assert not torch.equal(made, negative)
