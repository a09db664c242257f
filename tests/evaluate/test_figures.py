"""Intervals hold the truth as often as they say."""

import numpy as np
import pytest

from daguerre.evaluate.figures import Estimate, Figure, blockwise, mean, ratio, share


def test_a_share_and_its_interval():
    found = share([True] * 8 + [False] * 2)
    assert found.value == 0.8
    assert (found.low, found.high, found.n) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4), 10)
    assert share([True] * 3).high == 1
    assert share([False] * 3).low == 0
    with pytest.raises(ValueError, match="nothing was counted"):
        share([])


@pytest.mark.parametrize("kind", ["share", "mean", "ratio"])
def test_intervals_hold_the_truth_in_19_of_20_cases(kind):
    random, inside, cases = np.random.default_rng(0), 0, 200
    for _ in range(cases):
        a, b = random.random(80) < 0.3, random.random(80) < 0.6
        found = {"share": share(list(a)), "mean": mean(a), "ratio": ratio(a, b)}[kind]
        inside += found.low <= (0.5 if kind == "ratio" else 0.3) <= found.high
    assert 0.91 <= inside / cases <= 0.985


def test_a_ratio_takes_pairs():
    assert ratio([1, 0, 1, 1], [1, 0, 1, 1]) == Estimate(1, 1, 1, 4)
    assert ratio([1, 0], [0, 0]) is None
    with pytest.raises(ValueError, match=r"2 pictures .* 3 real ones"):
        ratio([1, 0], [1, 1, 1])


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=50)
    found = blockwise(values.mean(), [np.delete(values, i).mean() for i in range(50)], 50)
    error = values.std(ddof=1) / 50**0.5
    assert found.high - found.value == pytest.approx(1.96 * error)


def test_a_figure_as_json():
    told = Figure(section="a", name="b", model=share([True]), note="c").told()
    assert told["model"]["n"] == 1
    assert (told["real"], told["section"], told["percent"]) == (None, "a", True)
