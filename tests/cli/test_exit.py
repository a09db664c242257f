"""What a user is told of an error, and what is kept for those who mend it."""

import pytest
import torch

from daguerre.cli.exit import FAILED, UNUSABLE, friendly
from daguerre.generate.explore.axes import _ordered
from daguerre.request import RequestError
from daguerre.runtime.precision import NumericError, pick_dtype


def told(act):
    with pytest.raises(Exception) as caught:
        act()
    failure = friendly(caught.value)
    return failure.code, str(failure)


def test_errors_of_our_own_making_are_told_in_their_words():
    assert told(lambda: pick_dtype(torch.device("cpu"), "float7"))[0] == UNUSABLE
    assert friendly(RequestError("steps is 0")).code == UNUSABLE  # as from another process, without a traceback
    assert friendly(NumericError("the weights are damaged")).code == FAILED


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda: list(zip([1], [], strict=True)), "ValueError"),
        (lambda: _ordered("a cat", ("dog",)), "ValueError"),  # in a frame of ours
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: int(float("inf")), "OverflowError"),
    ],
)
def test_errors_of_the_language_are_no_fault_of_the_user(act, name):
    code, words = told(act)
    assert code == FAILED
    assert words.startswith(f"{name}: ")
    assert "DAGUERRE_DEBUG" in words
