"""The ladder of noise levels and the walks down it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.diffusion.samplers import SAMPLERS
from daguerre.diffusion.schedule import SCHEDULES, find_schedule, karras, polyexponential, scaled_linear
from daguerre.request import RequestError

LEVELS = scaled_linear()


def test_the_ladder_of_stable_diffusion() -> None:
    assert LEVELS.sigmas.dtype == torch.float32
    assert LEVELS.sigmas[[0, -1]].tolist() == pytest.approx([0.029167157, 14.614641], rel=1e-6)
    assert (LEVELS.sigmas.diff() > 0).all()


@pytest.mark.parametrize("levels", [LEVELS, LEVELS.zero_terminal()], ids=["as trained", "zero terminal"])
def test_rungs_and_timesteps_are_exact(levels) -> None:
    whole = torch.arange(1000.0)
    assert torch.equal(levels.sigma(whole), levels.sigmas)
    assert torch.equal(levels.timestep(levels.sigmas), whole)
    assert [levels.timestep(sigma).item() for sigma in levels.sigmas[::37]] == whole[::37].tolist()


@given(st.floats(0, 999))
def test_timestep_inverts_sigma(t: float) -> None:
    assert LEVELS.timestep(LEVELS.sigma(torch.tensor(t, dtype=torch.float64))).item() == pytest.approx(t, abs=2e-4)


def test_half_a_timestep_is_the_geometric_mean() -> None:
    between = LEVELS.sigma(torch.tensor(500.5))
    assert between.item() == pytest.approx((LEVELS.sigmas[500] * LEVELS.sigmas[501]).sqrt().item(), rel=1e-6)


def test_levels_beyond_the_ladder_are_clamped() -> None:
    assert LEVELS.timestep(torch.tensor([1e-9, 1e9])).tolist() == [0, 999]


def test_zero_terminal_keeps_the_first_rung_and_ends_in_noise() -> None:
    sigmas = LEVELS.zero_terminal().sigmas
    assert sigmas[0].item() == pytest.approx(LEVELS.sigmas[0].item(), rel=1e-5)
    assert sigmas[-1].item() == pytest.approx(4096)
    assert (sigmas.diff() > 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
@given(n=st.integers(1, 1000))
def test_schedules_descend_to_zero(name: str, n: int) -> None:
    sigmas = SCHEDULES[name](LEVELS, n)
    assert sigmas.dtype == torch.float32
    assert sigmas.shape == (n + 1,)
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert sigmas[0] <= LEVELS.sigmas[-1] * 1.0001  # published levels are rounded


@pytest.mark.parametrize(
    ("name", "timesteps"),
    [
        ("automatic", [999, 666, 333, 0]),
        ("uniform", [999, 666, 333, 0]),
        ("sgm_uniform", [999, 749.25, 499.5, 249.75]),
        ("ddim_uniform", [751, 501, 251, 1]),
        ("turbo", [999, 749, 499, 249]),
        ("simple", [999, 749, 499, 249]),
        ("beta_timesteps", [999, 823, 500, 176]),
    ],
)
def test_timesteps_of_four_steps(name: str, timesteps: list[float]) -> None:
    found = LEVELS.timestep(SCHEDULES[name](LEVELS, 4)[:-1])
    assert found.tolist() == pytest.approx(timesteps, abs=1e-4)
    if all(t == int(t) for t in timesteps):
        assert found.tolist() == timesteps


@pytest.mark.parametrize("name", ["karras", "exponential", "polyexponential", "kl_optimal", "beta", "laplace"])
def test_schedules_in_sigma_span_the_ladder(name: str) -> None:
    assert SCHEDULES[name](LEVELS, 7)[[0, -2]].tolist() == pytest.approx(LEVELS.sigmas[[-1, 0]].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "first"), [("align_your_steps", 6.475), ("align_your_steps_xl", 6.315), ("align_your_steps_gits", 4.617)]
)
def test_published_levels_and_those_between(name: str, first: float) -> None:
    ten = SCHEDULES[name](LEVELS, 11)
    assert ten[[0, 1, -2, -1]].tolist() == pytest.approx([14.615, first, 0.029, 0])
    between = SCHEDULES[name](LEVELS, 21)
    assert torch.allclose(between[:-1:2], ten[:-1])
    assert between[1].item() == pytest.approx((14.615 * first) ** 0.5)
    assert SCHEDULES[name](LEVELS, 1).tolist() == pytest.approx([14.615, 0])


@pytest.mark.parametrize("name", ["ddim_uniform", "turbo", "simple"])
def test_schedules_that_count_rungs_refuse_more_steps_than_there_are(name: str) -> None:
    few = LEVELS.between(5.0, 6.0)
    spec, rungs = SAMPLERS["DPM++ 2M"], len(few.sigmas)
    assert (spec.sigmas(name, few, rungs).diff() < 0).all()
    with pytest.raises(
        RequestError, match=rf"'{name}' has no {rungs + 1} different noise levels from 6 down to 5; take"
    ):
        spec.sigmas(name, few, rungs + 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_step_begins_in_noise(name: str) -> None:
    assert SCHEDULES[name](LEVELS, 1)[0].item() == pytest.approx(LEVELS.sigmas[-1].item(), rel=1e-3)


def test_linear_quadratic() -> None:
    """Half of the steps for the first fortieth, and no corner where the parabola begins."""
    sigmas = SCHEDULES["linear_quadratic"](LEVELS, 40) / LEVELS.sigmas[-1]
    assert sigmas[20].item() == pytest.approx(1 - 0.025)
    assert sigmas[:21].diff().tolist() == pytest.approx([-0.025 / 20] * 20, abs=1e-6)
    assert sigmas.diff()[20].item() == pytest.approx(-0.025 / 20 - (1 - 0.05) / 400, abs=1e-6)


def test_arcs_between_levels() -> None:
    sigmas = SCHEDULES["kl_optimal"](LEVELS, 9)[:-1]
    assert sigmas.atan().diff().tolist() == pytest.approx([sigmas.atan().diff().mean().item()] * 8, abs=1e-6)


def test_the_exponents_of_schedules() -> None:
    flat, steep = (polyexponential(LEVELS, 9, rho) for rho in (1.0, 2.0))
    assert torch.allclose(flat, SCHEDULES["exponential"](LEVELS, 9))
    assert (steep[1:-2] < flat[1:-2]).all()
    assert steep[[0, -2]].tolist() == flat[[0, -2]].tolist()
    assert (karras(LEVELS, 9, 3.0)[1:-2] > karras(LEVELS, 9)[1:-2]).all()


@pytest.mark.parametrize("name", ["karras", "sgm_uniform", "uniform", "simple", "beta"])
def test_other_ends(name: str) -> None:
    levels = LEVELS.between(0.1, 8.0)
    sigmas = SCHEDULES[name](levels, 10)
    assert sigmas[0].item() == pytest.approx(8.0)
    assert sigmas[-2] >= 0.1 * 0.9999
    assert torch.equal(LEVELS.between(high=8.0).sigmas[:5], LEVELS.sigmas[:5])
    assert LEVELS.between() is LEVELS
    with pytest.raises(RequestError, match="the lowest noise level, 9, is not below the highest, 8"):
        LEVELS.between(9.0, 8.0)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("normal", "uniform"),
        ("DDIM", "ddim_uniform"),
        ("KL Optimal", "kl_optimal"),
        ("Align Your Steps 11", "align_your_steps"),
        ("Align Your Steps GITS", "align_your_steps_gits"),
        ("Polyexponential", "polyexponential"),
    ],
)
def test_other_names(name: str, key: str) -> None:
    assert find_schedule(name) == key


@pytest.mark.parametrize("name", ["SGM Uniform", "sgm_uniform", "SGMUniform", "sgm-uniform"])
def test_spellings(name: str) -> None:
    assert find_schedule(name) == "sgm_uniform"


def test_an_unknown_schedule_lists_the_near_ones() -> None:
    with pytest.raises(RequestError, match=r"unknown schedule 'karas'; did you mean 'karras'\? All: automatic, "):
        find_schedule("karas")
