"""Errors as a user should see them: one sentence, an exit code, no traceback."""

import dis
import errno
import logging
import os
import re
import traceback
from collections.abc import Sequence

from ..request import RequestError

FAILED, UNUSABLE = 1, 2
# What is wrong with a place that was named, rather than with the disk or the system.
NAMED_WRONG = errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP
log = logging.getLogger(__name__)
FIELD = re.compile(r"(?:(hires):? )?(\w+) is ")  # of a request, at the beginning of what is wrong with it
# Flags that are not called as the fields that they set.
FLAGS = {
    "negative_prompt": "negative",
    "cfg_scale": "cfg",
    "image_cfg_scale": "image-cfg",
    **dict.fromkeys(("width", "height"), "size"),
    **dict.fromkeys(("seed_width", "seed_height"), "seed-size"),
    "enlarge": "scale",
}


class Failure(Exception):  # noqa: N818  a name for the user's side of it
    """A command cannot go on."""

    def __init__(self, message: str, code: int = FAILED):
        super().__init__(message)
        self.code = code


def friendly(error: Exception, arguments: Sequence[str] = ()) -> Failure:
    """What to tell about an error of a command with these arguments.

    With DAGUERRE_DEBUG set, the traceback goes to standard error as well.
    """
    if os.environ.get("DAGUERRE_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, Failure):
        return error
    if isinstance(error, ValueError) and is_meant(error):  # an unusable request or file; the message says what to do
        return Failure(_by_flag(str(error), arguments) if type(error) is RequestError else str(error), UNUSABLE)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return Failure(f"{error.filename}: there is no such file or folder", UNUSABLE)
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return Failure(f"out of memory ({error}); try --low-memory, or a smaller --size")
    if isinstance(error, OSError):
        told = f"{error.filename!s:.60}...: the name is too long" if error.errno == errno.ENAMETOOLONG else str(error)
        return Failure(told, UNUSABLE if error.errno in NAMED_WRONG else FAILED)
    if isinstance(error, ModuleNotFoundError) or (isinstance(error, ArithmeticError) and is_meant(error)):
        return Failure(str(error))
    return Failure(f"{type(error).__name__}: {error} (set DAGUERRE_DEBUG=1 to see where)")


def _by_flag(told: str, arguments: Sequence[str]) -> str:
    """What is wrong with a field, by the name of the flag that set it, where there was one."""
    if not (found := FIELD.match(told)):
        return told
    hires, field = found.groups()
    flag = FLAGS.get(field, field.replace("_", "-"))
    if hires:
        flag = "hires" if flag == "scale" else f"hires-{flag}"
    if f"--{flag}" not in {argument.partition("=")[0] for argument in arguments}:
        return told
    side = f": {field}" if flag.endswith("size") else ""  # which of the two
    return f"--{flag}{side} is {told[found.end() :]}"


def is_meant(error: Exception) -> bool:
    """Whether an error is of our own making, so that its message is for users.

    What `zip`, `int` or another library raises is of the same classes, and says nothing to them: it is a bug of ours.
    """
    if type(error).__module__.startswith("daguerre."):
        return True
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    if place is None or not str(place.tb_frame.f_globals.get("__name__")).startswith("daguerre."):
        return False
    return place.tb_frame.f_code.co_code[place.tb_lasti] == dis.opmap["RAISE_VARARGS"]  # a `raise` of ours
