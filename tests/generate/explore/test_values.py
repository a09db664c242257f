import pytest

from daguerre.generate.explore.values import MOST, numbers, texts
from daguerre.request import RequestError


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("20", [20]),
        ("10, 20,30", [10, 20, 30]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("5-1", [5, 4, 3, 2, 1]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("1-10 (+3)", [1, 4, 7, 10]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("7-9, 20, 1-3(+2)", [7, 8, 9, 20, 1, 3]),
        ("-1", [-1]),
        ("-2--1", [-2, -1]),
        ("5-5 [1]", [5]),
    ],
)
def test_whole_numbers(typed, found):
    """The values that A1111's wiki gives for its X/Y/Z plot, and what follows from them."""
    assert numbers(typed, whole=True) == found


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("7.5, .5", [7.5, 0.5]),
        ("1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        ("0.0-1.0 [6]", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("0-1 (+0.1)", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("1-2 (+0.3)", [1.0, 1.3, 1.6, 1.9]),
        ("3", [3.0]),
    ],
)
def test_numbers_are_as_exact_as_they_are_written(typed, found):
    assert numbers(typed, whole=False) == found


def test_quotes_keep_commas():
    assert texts('red, "a, b" ,"say ""x""", ') == ["red", "a, b", 'say "x"', ""]


@pytest.mark.parametrize(
    "typed", ["many", "1.5", "1-", "1e9", "1-9 (+0)", "1-9 (-1)", "1-9 [0]", "1-9 (+x)", "٣", "1 2"]
)
def test_what_is_no_whole_number_is_named(typed):
    with pytest.raises(RequestError, match=typed[:1]):
        numbers(typed, whole=True)


@pytest.mark.parametrize(
    "typed", ["0-999999999999", "0-1 (+0.0000001)", "1-2 [99999999]", ",".join(["1"] * (MOST + 1))]
)
def test_too_many_are_refused_before_they_are_made(typed):
    with pytest.raises(RequestError, match="the limit is 1,000"):
        numbers(typed, whole=False)


def test_no_values_are_refused():
    with pytest.raises(RequestError, match="it has no values"):
        texts(" ")
