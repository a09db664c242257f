r"""Prompt syntax: which words weigh more or less, in the grammar of A1111.

    (text)      weight x 1.1        (text:1.3)  weight x 1.3      \( \) \[ \] \\  the character itself
    [text]      weight / 1.1        BREAK       ends the chunk of tokens

Brackets nest and multiply. An unclosed one reaches to the end; one closed but never opened is plain text.

AND, `<lora:name:1>`, `[from:to:when]` and `[a|b]` are plain text here: segments.py and extra_networks.py turn a
prompt with them into plain ones before.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from ..request import RequestError

ROUND, SQUARE = 1.1, 1 / 1.1
PIECE = re.compile(r"\\[()\[\]\\]?|:\s*(?P<number>[+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
BREAK_WORD = re.compile(r"\bBREAK\b")


class Run(NamedTuple):
    """Neighboring text of one weight."""

    text: str
    weight: float


# A chunk ends here. Weighted brackets scale this mark like any text, and make it the mere word.
BREAK = Run("BREAK", -1.0)


def parse(prompt: str) -> list[Run]:
    """The runs of a prompt, at least one; runs equal to `BREAK` end a chunk.

    Raises RequestError for a weight that is no number, such as `(a:1..2)`, or beyond a float's range.
    """
    runs: list[Run] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    scopes: list[tuple[int, int, float]] = []  # first run, one past the last, factor; in the order of closing
    for match in PIECE.finditer(prompt):
        piece, number = match[0], match["number"]
        if piece in opened:
            opened[piece].append(len(runs))
        elif (number or piece == ")") and opened["("]:
            scopes.append((opened["("].pop(), len(runs), ROUND if number is None else read_weight(number)))
        elif piece == "]" and opened["["]:
            scopes.append((opened["["].pop(), len(runs), SQUARE))
        elif piece[0] == "\\":
            runs.append(Run(piece[1:], 1.0))
        else:
            runs += split_breaks(piece)
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        scopes += [(start, len(runs), factor) for start in opened[bracket]]
    return merge(runs, scopes)


def read_weight(number: str) -> float:
    try:
        return float(number)
    except ValueError:
        wrong = f"the prompt's weight {number[:40]!r} is not a number; write it as in (word:1.2)"
        raise RequestError(wrong) from None


def split_breaks(text: str) -> Iterator[Run]:
    """Plain text with the BREAKs in it; these swallow the blanks round them."""
    parts = BREAK_WORD.split(text)
    for i, part in enumerate(parts):
        if i > 0:
            yield BREAK
            part = part.lstrip()
        yield Run(part.rstrip() if i < len(parts) - 1 else part, 1.0)


def merge(runs: list[Run], scopes: list[tuple[int, int, float]]) -> list[Run]:
    """Applies every scope's factor, then joins neighbors of equal weight."""
    # Inner brackets multiply first: whether two weights are equal hangs on the last bit. In numpy, because
    # thousands of nested brackets are thousands of factors for each run.
    weights = np.array([run.weight for run in runs])
    with np.errstate(all="ignore"):
        for start, stop, factor in scopes:
            weights[start:stop] *= factor
    if not np.isfinite(weights).all():
        raise RequestError("the prompt has a weight beyond all numbers; take brackets away or make it smaller")
    weighed = zip((run.text for run in runs), weights.tolist(), strict=True)
    same_weight = groupby(weighed, key=itemgetter(1))
    return [Run("".join(text for text, _ in same), weight) for weight, same in same_weight] or [Run("", 1.0)]
