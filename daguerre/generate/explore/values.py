"""The values of an axis as they are typed, in the syntax of A1111's X/Y/Z plot.

20, 30, "a, b"       a list; quotes keep a comma, two of them in quotes are one
1-5   10-1           from one number to another, 1 by 1
1-10 (+3)            3 by 3: 1, 4, 7, 10
0-1 [5]              5 numbers from the first to the last; whole numbers are cut, not rounded: 1-10 [5] has a 3
"""

import csv
import re
from decimal import Decimal
from io import StringIO

from ...request import RequestError

MOST = 1000  # values of an axis
NUMBER = r"([+-]?\s*(?:\d+(?:\.\d*)?|\.\d+))"
RANGE = re.compile(rf"{NUMBER}\s*-\s*{NUMBER}(?:\s*\(\s*{NUMBER}\s*\)|\s*\[\s*(\d+)\s*\])?", re.ASCII)
ONE = re.compile(NUMBER, re.ASCII)
LONGEST = 40  # characters of a number or a range


def texts(typed: str) -> list[str]:
    """The parts of a list. Raises RequestError for an empty list and for too many values."""
    try:
        found = [value.strip() for line in csv.reader(StringIO(typed), skipinitialspace=True) for value in line]
    except csv.Error as error:
        raise RequestError(f"it cannot be read as a list: {error}") from error
    if not any(found):
        raise RequestError("it has no values; write them after a colon, such as steps: 10, 20, 30")
    few(f"{typed:.40}", len(found))
    return found


def numbers(typed: str, *, whole: bool) -> list[int] | list[float]:
    """The numbers of a list, its ranges spread out. Raises RequestError that names the wrong value."""
    found: list[Decimal] = []
    for value in texts(typed):
        found += spread(value, whole=whole)
        few(f"{typed:.40}", len(found))
    return [int(number) for number in found] if whole else [float(number) for number in found]


def spread(value: str, *, whole: bool) -> list[Decimal]:
    """One number, or all of a range."""
    kind = "a whole number or a range of them, such as 1-5" if whole else "a number or a range, such as 0-1 [5]"
    if len(value) > LONGEST or not (match := ONE.fullmatch(value) or RANGE.fullmatch(value)):
        raise RequestError(f"{value!r:.60} is not {kind}")
    found = [None if text is None else Decimal("".join(text.split())) for text in match.groups()]
    if whole and any(number is not None and number != int(number) for number in found):
        raise RequestError(f"{value!r} is not {kind}")
    first, last, step, count = (*found, None, None, None)[:4]
    if first is None or last is None:
        return [number for number in found if number is not None]
    if count is not None:
        return counted(value, first, last, int(count), whole=whole)
    step = (Decimal(1) if last >= first else Decimal(-1)) if step is None else step
    if step == 0 or (last - first) * step < 0:
        raise RequestError(f"{value!r} never arrives: its steps of {step} lead elsewhere")
    steps = int((last - first) / step)
    return [first + step * i for i in range(few(value, steps + 1))]


def counted(value: str, first: Decimal, last: Decimal, count: int, *, whole: bool) -> list[Decimal]:
    if count < 1:
        raise RequestError(f"{value!r} asks for no number; ask for one or more")
    gaps = max(1, few(value, count) - 1)
    even = [first + (last - first) * i / gaps for i in range(count)]
    return [Decimal(int(number)) for number in even] if whole else even


def few(value: str, count: int) -> int:
    if count > MOST:
        raise RequestError(f"{value!r} has {count:,} values; the limit is {MOST:,}")
    return count
