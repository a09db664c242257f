"""Errors as a user should see them: one sentence, an exit code, no traceback."""

import dis
import logging
import os
import traceback

FAILED, UNUSABLE = 1, 2
log = logging.getLogger(__name__)


class Failure(Exception):  # noqa: N818  a name for the user's side of it
    """A command cannot go on."""

    def __init__(self, message: str, code: int = FAILED):
        super().__init__(message)
        self.code = code


def friendly(error: Exception) -> Failure:
    """What to tell about an error; with DAGUERRE_DEBUG set, the traceback goes to standard error as well."""
    if os.environ.get("DAGUERRE_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, Failure):
        return error
    if isinstance(error, ValueError) and is_meant(
        error
    ):  # requests and files that cannot be used: their messages say what to do
        return Failure(str(error), UNUSABLE)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return Failure(f"{error.filename}: there is no such file or folder", UNUSABLE)
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return Failure(f"out of memory ({error}); try --low-memory, or a smaller --size")
    if isinstance(error, OSError):
        return Failure(str(error))
    if isinstance(error, ModuleNotFoundError) or (isinstance(error, ArithmeticError) and is_meant(error)):
        return Failure(str(error))
    return Failure(f"{type(error).__name__}: {error} (set DAGUERRE_DEBUG=1 to see where)")


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
