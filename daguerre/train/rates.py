"""How fast to learn at each step: warm-up, a schedule, and a last stretch down to zero."""

import math
from difflib import get_close_matches
from typing import get_args, get_type_hints

from ..request import RequestError
from .config import Optimizer


def rate(o: Optimizer, steps: int, step: int) -> float:
    """What to multiply every learning rate by at `step` (0 is the first) of `steps`: a number in [0, 1].

    It rises to 1 in the first `warmup` steps, follows the schedule from 1 down to `floor` between warm-up and the
    last `decay` steps, and in these falls from there to 0. Raises RequestError for an unknown schedule.
    """
    falling = (steps - step) / o.decay if o.decay else 1.0
    progress = (step - o.warmup) / max(1, steps - o.warmup - o.decay)
    shape = _shape(o, step, min(1.0, max(0.0, progress)))
    return (o.floor + (1 - o.floor) * shape) * min(1.0, (step + 1) / max(1, o.warmup), max(0.0, falling))


def _shape(o: Optimizer, step: int, progress: float) -> float:
    """The schedule from 1 at `progress` 0 to 0 at 1."""
    match o.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - progress
        case "cosine":
            return _cosine(progress)
        case "cosine_restarts":  # arXiv:1608.03983, without a last rise at the very end
            return _cosine(progress * o.cycles % 1.0 if progress < 1 else 1.0)
        case "polynomial":
            return float((1 - progress) ** o.power)
        case "rex":  # arXiv:2107.04197: high for longer than a line, then down faster
            return (1 - progress) / (1 - progress / 2)
        case "inverse_sqrt":  # arXiv:1706.03762, eq. 3: without an end, and the warm-up sets its pace
            return math.sqrt(max(1, o.warmup) / max(1, o.warmup, step + 1))
    known = get_args(get_type_hints(Optimizer)["schedule"])  # type: ignore[unreachable]  # mypy trusts the caller
    near = get_close_matches(o.schedule, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise RequestError(f"optimizer.schedule {o.schedule!r} is unknown; {hint}")


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
