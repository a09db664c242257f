"""Learning-rate schedules, against their formulas and properties."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daguerre.request import RequestError
from daguerre.train.config import Optimizer
from daguerre.train.rates import rate

SCHEDULES = get_args(get_type_hints(Optimizer)["schedule"])


def rates(steps: int, **settings) -> list[float]:
    return [rate(Optimizer(**settings), steps, step) for step in range(steps)]


def test_constant_rises_stays_and_falls():
    found = rates(100, warmup=10, decay=20)
    assert found[:10] == [(n + 1) / 10 for n in range(10)]
    assert found[10:81] == [1.0] * 71
    assert found[80:] == [(20 - n) / 20 for n in range(20)]
    assert set(rates(100)) == {1.0}


@given(steps=st.integers(1, 300), warmup=st.integers(0, 400), decay=st.integers(0, 400))
def test_warmup_and_decay_meet_by_the_lower(steps, warmup, decay):
    """As the loop has always done it, also where both stretches overlap; a run must resume to the same bits."""
    for step, found in enumerate(rates(steps, warmup=warmup, decay=decay)):
        falling = (steps - step) / decay if decay else 1.0
        assert found == min(1.0, (step + 1) / max(1, warmup), max(0.0, falling))


FORMULAS = {
    "linear": lambda p: 1 - p,
    "cosine": lambda p: math.cos(math.pi * p / 2) ** 2,
    "cosine_restarts": lambda p: math.cos(math.pi * (3 * p - math.floor(3 * p)) / 2) ** 2,
    "polynomial": lambda p: (1 - p) ** 2,
    "rex": lambda p: (1 - p) / (0.5 + 0.5 * (1 - p)),
}


@pytest.mark.parametrize("schedule", FORMULAS)
def test_schedules_follow_their_formulas(schedule):
    found = rates(130, schedule=schedule, warmup=10, decay=20, cycles=3, power=2, floor=0.1)
    expected = [0.1 + 0.9 * FORMULAS[schedule](n / 100) for n in range(100)]
    assert found[9] == 1.0
    assert found[10:110] == pytest.approx(expected)
    assert found[110:] == pytest.approx([0.1 * (20 - n) / 20 for n in range(20)])


def test_cosine_restarts_begins_again_at_the_top():
    found = rates(90, schedule="cosine_restarts", cycles=3)
    assert [found[0], found[30], found[60]] == pytest.approx([1.0] * 3)
    assert max(found[29], found[59], found[89]) < 0.003


def test_inverse_square_root_halves_in_four_times_the_warmup():
    found = rates(1000, schedule="inverse_sqrt", warmup=100)
    assert found[99] == 1.0
    assert found[399] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(
    steps=st.integers(1, 200),
    warmup=st.integers(0, 300),
    decay=st.integers(0, 300),
    floor=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    cycles=st.integers(1, 5),
)
def test_every_schedule_stays_between_zero_and_one(schedule, steps, warmup, decay, floor, cycles):
    o = Optimizer(schedule=schedule, warmup=warmup, decay=decay, floor=floor, cycles=cycles, power=1.5)
    found = [rate(o, steps, step) for step in range(steps)]
    assert all(0 <= value <= 1 + 1e-12 for value in found)
    if schedule != "cosine_restarts":
        middle = found[warmup : steps - decay]
        assert all(later <= earlier + 1e-12 for earlier, later in pairwise(middle))
    assert all(value >= floor - 1e-12 for value in found[warmup : max(warmup, steps - decay)])


def test_an_unknown_schedule_is_refused():
    with pytest.raises(RequestError, match=r"optimizer.schedule 'cosin' is unknown; did you mean 'cosine'"):
        rate(replace(Optimizer(), schedule="cosin"), 10, 0)
