"""What a user is told of an error, and what is kept for those who mend it."""

from decimal import Decimal

import pytest
import torch

from daguerre.cli.exit import FAILED, UNUSABLE, friendly
from daguerre.generate.explore.values import counted
from daguerre.generate.hires import passes
from daguerre.request import Hires, RequestError, TextToImage, TiledUpscale
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
        (lambda: counted("", Decimal("NaN"), Decimal(1), 2, whole=True), "ValueError"),  # in a frame of ours
        (lambda: 1 // 0, "ZeroDivisionError"),
        (lambda: int(float("inf")), "OverflowError"),
    ],
)
def test_errors_of_the_language_are_no_fault_of_the_user(act, name):
    code, words = told(act)
    assert code == FAILED
    assert words.startswith(f"{name}: ")
    assert "DAGUERRE_DEBUG" in words


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        (lambda: TextToImage(prompt="", cfg_scale=200), "--cfg: cfg_scale is 200; it must be a number from 0 to 100"),
        (lambda: TextToImage(prompt="", width=130), "--size: width is 130; it must be a multiple of 8"),
        (lambda: TiledUpscale(prompt="", enlarge=0.5), "--scale: enlarge is 0.5"),
        (lambda: TextToImage(prompt="", seed=2**33), "seed is 8589934592; it must be a number from -1 to 4294967295"),
        (lambda: Hires(scale=0), "--hires: hires scale is 0"),
        (lambda: Hires(strength=3), "--hires-strength: hires strength is 3"),
        (lambda: passes(TextToImage(prompt="", hires=Hires(width=130))), "--hires-size: hires: width is 130"),
        (lambda: passes(TextToImage(prompt="", hires=Hires(upscaler="x"))), "--hires-upscaler: hires upscaler is"),
    ],
)
def test_a_field_is_told_of_with_its_flag(request_of, words):
    code, said = told(request_of)
    assert code == UNUSABLE
    assert said.startswith(words)
