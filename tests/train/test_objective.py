"""The training objective against closed forms and the formulas of its papers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.prediction import Epsilon, FlowOnLadder, Velocity
from daguerre.diffusion.schedule import scaled_linear
from daguerre.request import RequestError
from daguerre.train.config import Objective
from daguerre.train.objective import DenoisingObjective, factor, huber_place, noise, noise_levels, perlin, weight
from daguerre.train.randomness import generator, normal

LEVELS = scaled_linear()
NOTHING = Cond(torch.zeros(1, 1, 1), None)
KINDS = {"epsilon": Epsilon, "v": Velocity, "flow": FlowOnLadder}
T = torch.tensor([0, 1, 120, 500, 870, 999])
SIGMA = LEVELS.sigmas[T]
SNR = SIGMA.double() ** -2


def column(values):
    return values.reshape(-1, 1, 1, 1)


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randn(6, 4, 8, 8, generator=rng) for _ in range(2))


def truth(prediction, x0, noise):
    """What the network should say, from alpha_bar alone."""
    alpha_bar = column(1 / (1 + SIGMA.double() ** 2))
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return {"epsilon": noise, "v": (a * noise - s * x0).float(), "flow": noise - x0}[prediction]


def errors(prediction, answer, batch, mask=None, perturbation=None, **settings):
    """The loss per picture of a network that says `answer`, and what it was given."""
    given_ = []

    def network(x, t, tokens, vector):
        given_.append((x, t))
        return answer

    objective = DenoisingObjective(Objective(**settings), prediction, LEVELS)
    found = objective(KINDS[prediction](network, LEVELS), batch[0], NOTHING, batch[1], SIGMA, mask, perturbation)
    return found, given_[0]


@pytest.mark.parametrize("prediction", KINDS)
def test_the_true_prediction_has_no_error(batch, prediction):
    found, (x, t) = errors(prediction, truth(prediction, *batch), batch)
    assert found.shape == (6,)
    assert found.max() < 1e-8
    assert t.tolist() == T.tolist()
    scale = column(1 + SIGMA if prediction == "flow" else (1 + SIGMA**2).sqrt())
    torch.testing.assert_close(x, (batch[0] + column(SIGMA) * batch[1]) / scale)


@pytest.mark.parametrize("prediction", KINDS)
def test_an_error_of_the_prediction_costs_its_square(batch, prediction):
    found, _ = errors(prediction, truth(prediction, *batch) + 0.5, batch)
    torch.testing.assert_close(found, torch.full((6,), 0.25), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prediction", KINDS)
def test_input_perturbation_does_not_move_the_target(batch, prediction):
    """arXiv:2301.11706, algorithm 1: the network sees more noise and is to say the noise without it."""
    extra = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer = truth(prediction, *batch)
    found, (x, _) = errors(prediction, answer, batch, perturbation=extra, input_perturbation=0.1)
    assert found.max() < 1e-8
    _, (plain, _) = errors(prediction, answer, batch)
    scale = column(1 + SIGMA if prediction == "flow" else (1 + SIGMA**2).sqrt())
    torch.testing.assert_close(x - plain, 0.1 * column(SIGMA) * extra / scale, rtol=1e-3, atol=1e-5)


FORMULAS = {
    # Table 1 of arXiv:2303.09556: min(SNR, gamma) for x0, over SNR for epsilon, over SNR + 1 for v.
    ("min_snr", "epsilon"): lambda g: SNR.clamp(max=g) / SNR,
    ("min_snr", "v"): lambda g: SNR.clamp(max=g) / (SNR + 1),
    ("min_snr", "flow"): lambda g: SNR.clamp(max=g) / (SNR.sqrt() + 1) ** 2,
    # arXiv:2310.08442: 1 / sqrt(SNR) for epsilon.
    ("debiased", "epsilon"): lambda g: SNR**-0.5,
    ("debiased", "v"): lambda g: 1 / (SNR + 1),
    # arXiv:2204.00227, eq. 8, for epsilon; what counts as much for v, whose square is 1 + SNR times x0's.
    ("p2", "epsilon"): lambda g: (1 + SNR) ** -g,
    ("p2", "v"): lambda g: SNR / (1 + SNR) / (1 + SNR) ** g,
    ("plain", "epsilon"): lambda g: torch.ones_like(SNR),
}


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize(("weighting", "prediction"), FORMULAS)
def test_noise_levels_weigh_as_their_papers_say(batch, weighting, prediction, gamma):
    expected = FORMULAS[weighting, prediction](gamma)
    o = Objective(weighting=weighting, gamma=gamma)
    torch.testing.assert_close(weight(o, prediction, SIGMA.double()), expected)
    answer = truth(prediction, *batch) + 0.5
    found, _ = errors(prediction, answer, batch, weighting=weighting, gamma=gamma)
    torch.testing.assert_close(found.double(), 0.25 * expected, rtol=1e-3, atol=1e-6)


def test_the_same_error_of_x0_weighs_the_same_whatever_is_predicted():
    for weighting in ("min_snr", "p2"):
        o, sigma = Objective(weighting=weighting), SIGMA.double()
        of_x0 = [weight(o, kind, sigma) * factor(kind, sigma) ** 2 for kind in KINDS]
        torch.testing.assert_close(of_x0[1], of_x0[0])
        torch.testing.assert_close(of_x0[2], of_x0[0])


def test_huber_turns_from_square_to_line(batch):
    answer = truth("epsilon", *batch) + 0.5
    square, _ = errors("epsilon", answer, batch, loss="huber", huber=1e3, huber_schedule="constant")
    torch.testing.assert_close(square, torch.full((6,), 0.25), rtol=1e-3, atol=1e-6)
    line, _ = errors("epsilon", answer, batch, loss="smooth_l1", huber=1e-4, huber_schedule="constant")
    torch.testing.assert_close(line, torch.full((6,), 1.0), rtol=1e-3, atol=1e-3)
    c = 0.3
    middle, _ = errors("epsilon", answer, batch, loss="huber", huber=c, huber_schedule="constant")
    expected = 2 * c * (math.sqrt(0.25 + c * c) - c)
    torch.testing.assert_close(middle, torch.full((6,), expected), rtol=1e-3, atol=1e-5)


def test_the_place_where_huber_turns_falls_with_the_noise():
    for schedule in ("exponential", "snr"):
        places = huber_place(Objective(huber_schedule=schedule, huber=0.1), LEVELS, LEVELS.sigmas)
        assert (places.diff() < 0).all()
        assert places[0] == pytest.approx(1, abs=0.06)
    exponential = huber_place(Objective(huber_schedule="exponential", huber=0.1), LEVELS, LEVELS.sigmas[[500]])
    assert exponential.item() == pytest.approx(0.1**0.5)
    assert huber_place(Objective(huber=0.1), LEVELS, torch.tensor([1e6])).item() == pytest.approx(0.1, abs=1e-4)
    constant = huber_place(Objective(huber_schedule="constant", huber=0.2), LEVELS, SIGMA)
    assert constant.tolist() == pytest.approx([0.2] * 6)


def test_where_the_mask_is_black_nothing_counts(batch):
    answer = truth("epsilon", *batch)
    answer = torch.cat([answer[..., :4] + 0.5, answer[..., 4:] + 100], dim=-1)
    mask = torch.zeros(6, 1, 8, 8)
    mask[..., :4] = 1
    found, _ = errors("epsilon", answer, batch, mask=mask)
    torch.testing.assert_close(found, torch.full((6,), 0.25), rtol=1e-3, atol=1e-6)  # a part counts as the whole
    nothing, _ = errors("epsilon", answer, batch, mask=torch.zeros(6, 1, 8, 8))
    assert nothing.tolist() == [0.0] * 6


U = (torch.arange(20_000) + 0.5) / 20_000


def rungs(**settings):
    return LEVELS.timestep(noise_levels(Objective(**settings), LEVELS, U))


def test_uniform_noise_levels_are_each_as_likely():
    assert torch.bincount(rungs().long(), minlength=1000).tolist() == [20] * 1000


@given(first=st.floats(0, 0.9), width=st.floats(0.01, 0.5))
def test_noise_levels_keep_to_their_range(first, width):
    last = min(1.0, first + width)
    found = rungs(first=first, last=last)
    assert found.min() >= math.floor(first * 1000)
    assert found.max() <= min(999, math.ceil(last * 1000))
    assert found.float().mean().item() == pytest.approx(500 * (first + last), abs=2)


def test_logit_normal_noise_levels_follow_their_density():
    """arXiv:2403.03206, eq. 19: the logit of the place is normal."""
    found = rungs(timesteps="logit_normal", mean=0.5, std=0.8).double()
    logit = torch.special.logit((found + 0.5) / 1000)
    assert logit.mean().item() == pytest.approx(0.5, abs=0.02)
    assert logit.std().item() == pytest.approx(0.8, abs=0.02)
    assert found.median().item() == pytest.approx(1000 / (1 + math.exp(-0.5)), abs=2)


@pytest.mark.parametrize(("first", "last"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)])
def test_an_empty_range_is_refused(first, last):
    with pytest.raises(RequestError, match="take two shares with 0 <= first < last <= 1"):
        rungs(first=first, last=last)


def drawn(**settings):
    return noise(Objective(**settings), 0, 3, range(400), torch.zeros(400, 4, 16, 16))


def neighbors(x):
    """The correlation of a pixel and the one right of it."""
    return (x[..., 1:] * x[..., :-1]).mean().item() / x.square().mean().item()


def test_plain_noise_is_white_and_the_shared_draw():
    plain = drawn()
    assert torch.equal(plain, normal(0, "noise", 3, range(400), (4, 16, 16)))
    assert abs(neighbors(plain)) < 0.01


def test_offset_noise_shifts_whole_channels():
    shift = drawn(noise_offset=0.3) - drawn()
    torch.testing.assert_close(shift, shift[..., :1, :1].expand_as(shift), rtol=0, atol=1e-6)
    assert shift[..., 0, 0].std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(shift.mean().item()) < 0.02


def test_multires_noise_has_coarse_parts_and_unit_variance():
    found = drawn(multires=4, multires_discount=0.8)
    torch.testing.assert_close(found.std(dim=(1, 2, 3)), torch.ones(400))
    assert neighbors(found) > 0.3
    assert neighbors(drawn(multires=4, multires_discount=0.2)) < 0.1


def test_perlin_noise_is_smooth_and_of_unit_variance():
    field = perlin((4, 32, 32), generator(0, "perlin", 0, 0))
    assert field.std().item() == pytest.approx(1)
    assert neighbors(field) > 0.8
    found = drawn(perlin=0.5)
    assert found.std().item() == pytest.approx(1, abs=0.01)
    assert neighbors(found) == pytest.approx(0.2 * neighbors(perlin((400, 16, 16), generator(0, "p"))), abs=0.03)


def test_immiscible_noise_is_nearer_to_its_picture_and_still_white():
    x0 = torch.randn(400, 4, 4, 4, generator=generator(0, "x0"))
    near = noise(Objective(immiscible=8), 0, 0, range(400), x0)
    far = noise(Objective(), 0, 0, range(400), x0)

    def alike(found: torch.Tensor) -> float:
        return (found * x0).mean().item()

    # The largest of 8 products with 64 numbers each: 1.42 standard deviations (Harter, 1961) of 1 / 8.
    assert alike(near) == pytest.approx(1.42 / 8, abs=0.06)
    assert alike(far) == pytest.approx(0, abs=0.02)
    assert near.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("settings", [{}, {"noise_offset": 0.1}, {"multires": 3}, {"perlin": 0.3}, {"immiscible": 4}])
def test_noise_belongs_to_a_place_and_not_to_a_batch(settings):
    o = Objective(**settings)
    x0 = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = noise(o, 0, 3, range(6), x0)
    torch.testing.assert_close(noise(o, 0, 3, range(2, 4), x0[2:4]), whole[2:4], rtol=0, atol=0)
    assert not torch.equal(noise(o, 0, 4, range(6), x0), whole)
