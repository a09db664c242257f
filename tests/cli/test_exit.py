"""What a user is told of an error, and what is kept for those who mend it."""

import errno
import os
from decimal import Decimal

import pytest
import torch

from daguerre.adapters.adapted import weighted
from daguerre.cli.exit import FAILED, UNUSABLE, friendly
from daguerre.cli.flags import width_and_height
from daguerre.cli.language import WORDS_ALONE
from daguerre.cli.steering import _numbers
from daguerre.generate.explore.job import Job
from daguerre.generate.explore.prompt_file import read_prompts
from daguerre.generate.explore.values import counted, numbers
from daguerre.generate.hires import passes
from daguerre.request import Hires, RequestError, TextToImage, TiledUpscale, read_guide
from daguerre.runtime.device import pick_device
from daguerre.runtime.precision import NumericError, pick_dtype


def told(act, arguments=()):
    with pytest.raises(Exception) as caught:
        act()
    failure = friendly(caught.value, arguments)
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
        (lambda: TextToImage(prompt="", cfg_scale=200), "--cfg is 200; it must be a number from 0 to 100"),
        (lambda: TextToImage(prompt="", clip_skip=40), "--clip-skip is 40; it must be"),
        (lambda: TextToImage(prompt="", width=130), "--size: width is 130; it must be a multiple of 8"),
        (lambda: TextToImage(prompt="", seed_width=9), "--seed-size: seed_width is 9; it must be"),
        (lambda: TiledUpscale(prompt="", enlarge=0.5), "--scale is 0.5; it must be"),
        (lambda: Hires(scale=0), "--hires is 0; it must be"),
        (lambda: Hires(strength=3), "--hires-strength is 3; it must be"),
        (lambda: passes(TextToImage(prompt="", hires=Hires(width=130))), "--hires-size: width is 130; it must be"),
        (lambda: passes(TextToImage(prompt="", hires=Hires(upscaler="x"))), "--hires-upscaler is 'x'; give"),
    ],
)
def test_a_field_is_told_of_once_by_the_flag_that_set_it(request_of, words):
    flag = words.partition(" ")[0].rstrip(":")
    for arguments in ((flag, "130"), (f"{flag}=130",)):
        code, said = told(request_of, arguments)
        assert code == UNUSABLE
        assert said.startswith(words)
    assert not told(request_of, ("--other", "130"))[1].startswith("--")  # as for a field of a record or of a grid


@pytest.mark.parametrize(("code", "ends"), [(errno.EACCES, UNUSABLE), (errno.EROFS, UNUSABLE), (errno.ENOSPC, FAILED)])
def test_a_wrong_place_is_another_failure_than_a_full_disk(code, ends):
    failure = friendly(OSError(code, os.strerror(code), "out"))
    assert (failure.code, os.strerror(code) in str(failure)) == (ends, True)


NUMBERS = (
    "9" * 5000,
    "9" * 4000,
    "-" + "9" * 5000,
    "0." + "1" * 5000,
    "1e999",
    "nan",
    "inf",
    "²",
    "٣",
    "1_0",
    "1..2",
    "",
)
PARSERS = {
    "size": lambda number: width_and_height("--size", f"{number}x64"),
    "axis of whole numbers": lambda number: numbers(number, whole=True),
    "axis of numbers": lambda number: numbers(number, whole=False),
    "values of a range": lambda number: numbers(f"0-1 [{number}]", whole=False),
    "guide": lambda number: read_guide(f"pag:scale={number}"),
    "adapter": lambda number: weighted(f"a:{number}"),
    "control": lambda number: _numbers("--style-picture", f"a.png:1:0-{number}"),
    "device": lambda number: pick_device(f"cpu:{number}"),
    "line of flags": lambda number: read_prompts(f"--prompt a --steps {number}", Job(TextToImage(prompt=""))),
    "line of JSON": lambda number: read_prompts(f'{{"steps": {number}}}', Job(TextToImage(prompt=""))),
    "prompt": lambda number: WORDS_ALONE.read(TextToImage(prompt=f"(a:{number}) [b:c:{number}]:{number} AND d")),
    "tag": lambda number: WORDS_ALONE.read(TextToImage(prompt=f"<lora:x:{number}>")),
}


@pytest.mark.parametrize("name", PARSERS)
def test_no_number_that_is_typed_is_taken_for_a_bug(name):
    refused = 0
    for number in NUMBERS:
        try:
            PARSERS[name](number)
        except Exception as error:
            failure, refused = friendly(error), refused + 1
            assert failure.code == UNUSABLE, failure
            assert len(str(failure)) < 300
    assert refused
