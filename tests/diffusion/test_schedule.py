"""The ladder of noise levels and the walks down it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.diffusion.schedule import SCHEDULES, find_schedule, scaled_linear
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
    ],
)
def test_timesteps_of_four_steps(name: str, timesteps: list[float]) -> None:
    found = LEVELS.timestep(SCHEDULES[name](LEVELS, 4)[:-1])
    assert found.tolist() == pytest.approx(timesteps, abs=1e-4)
    if all(t == int(t) for t in timesteps):
        assert found.tolist() == timesteps


@pytest.mark.parametrize("name", ["karras", "exponential"])
def test_schedules_in_sigma_span_the_ladder(name: str) -> None:
    assert SCHEDULES[name](LEVELS, 7)[[0, -2]].tolist() == pytest.approx(LEVELS.sigmas[[-1, 0]].tolist(), rel=1e-6)


@pytest.mark.parametrize("name", ["SGM Uniform", "sgm_uniform", "SGMUniform", "sgm-uniform"])
def test_spellings(name: str) -> None:
    assert find_schedule(name) == "sgm_uniform"


def test_an_unknown_schedule_lists_the_near_ones() -> None:
    with pytest.raises(RequestError, match=r"unknown schedule 'karas'; did you mean 'karras'\? All: automatic, "):
        find_schedule("karas")
