"""Prompts from a file, one a line: plain ones, A1111's lines of flags, and JSON objects.

    a red apple, flat
    --prompt "a green pear" --negative_prompt "blur" --steps 20 --sampler_name "DPM++ 2M" --seed 7 --n_iter 2
    {"prompt": "a blue plum", "steps": 20, "guides": "pag:scale=2", "hires": {"scale": 2}}

Empty lines, and those that begin with #, say nothing. Flags and keys are A1111's or any field of a request.
"""

import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ...request import MAX_SEED, Guide, RequestError, read_guide
from ..drawing import settled
from ..hires import passes
from .axes import SWITCH
from .job import Job
from .plan import MAX_CELLS

# A1111's names that are not ours, and what it says that has no meaning here.
NAMES: Mapping[str, str] = {
    "sampler_name": "sampler",
    "scheduler": "schedule",
    "subseed": "variation_seed",
    "subseed_strength": "variation_strength",
    "seed_resize_from_w": "seed_width",
    "seed_resize_from_h": "seed_height",
    "sd_model": "model",
}
PASSED_OVER = ("prompt_for_display", "outpath_samples", "outpath_grids", "do_not_save_samples", "do_not_save_grid")
SAID = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple[Guide, ...]: "guides"}
COUNTS = ("count", "n_iter", "batch_size")  # pictures of a line are their product


def read_prompts(
    text: str, base: Job, *, next_seeds: bool = False, finished: Callable[[list[Job]], Iterable[Job]] = list
) -> list[Job]:
    """A job for each picture that a file's text asks for; what a line does not say is the base's.

    A line's pictures have seeds that follow one another. A line without a seed has the base's, or with `next_seeds`
    the one after those of the line before. `finished` checks a line's jobs and makes their choices. Raises
    RequestError that names the line, before anything is drawn.
    """
    seed, jobs = settled(base.request).seed, list[Job]()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            asked = _asked(line, replace(base, request=replace(base.request, seed=seed)))
            first = passes(asked.request)[0]
            ready = replace(asked.request, seed=first.seed, variation_seed=first.variation_seed)
            jobs += finished(_pictures(replace(asked, request=ready)))
        except (ValueError, TypeError, RecursionError) as error:
            raise RequestError(f"line {number}: {error}") from error
        if len(jobs) > MAX_CELLS:
            raise RequestError(f"line {number}: more than {MAX_CELLS:,} pictures; draw the rest from another file")
        if next_seeds:
            seed = (seed + first.count) % (MAX_SEED + 1)
    if not jobs:
        raise RequestError("there is no prompt in it; write one a line")
    return jobs


def _pictures(job: Job) -> list[Job]:
    """A job for each picture of one that has several, whose seeds are known."""
    varied = "variation_seed" if job.request.variation_strength else "seed"
    seed, one = getattr(job.request, varied), replace(job.request, count=1)
    return [replace(job, request=replace(one, **{varied: seed + i})) for i in range(job.request.count)]


def _asked(line: str, base: Job) -> Job:
    """What a line asks for, with all its pictures in one."""
    if line.startswith("{"):
        said = json.loads(line)
    elif line.startswith("--"):
        said = _flags(line)
    else:
        said = {"prompt": line}
    hints, values, count, setup = get_type_hints(type(base.request)), dict[str, Any](), 1, base.setup
    for key, value in said.items():
        name = NAMES.get(key.replace("-", "_"), key.replace("-", "_"))
        if name in PASSED_OVER:
            continue
        if name in COUNTS:
            count *= _converted(int, name, value, 1)
        elif name == "model":
            setup = replace(setup, model=_converted(str, name, value, ""))
        elif name in hints and name != "kind":
            values[name] = _converted(hints[name], name, value, getattr(base.request, name))
        else:
            raise RequestError(f"unknown flag {key!r}; the flags are {', '.join(sorted({*hints, *NAMES, *COUNTS}))}")
    return Job(replace(base.request, **values, count=count), setup)


def _flags(line: str) -> dict[str, str]:
    """Flags and their values; prompts may go on over several words without quotes."""
    words, said = shlex.split(line), dict[str, str]()
    while words:
        flag = words.pop(0)
        if not flag.startswith("--") or not words:
            raise RequestError(f"{flag!r:.60} is not --FLAG VALUE")
        value = [words.pop(0)]
        while flag in ("--prompt", "--negative_prompt") and words and not words[0].startswith("--"):
            value.append(words.pop(0))
        said[flag.removeprefix("--")] = " ".join(value)
    return said


def _converted(kind: Any, name: str, value: Any, now: Any) -> Any:
    """A text, or what JSON has, as a field wants it; an object changes fields of what the field holds now."""
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    wrong = RequestError(f"{name} is {value!r:.60}; it must be {SAID.get(kind, kind)}")
    if name == "tiling" and str(value).lower() in SWITCH:  # A1111 knows but both ways
        return "both" if SWITCH[str(value).lower()] else "off"
    if kind == tuple[Guide, ...]:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise wrong
        return tuple(read_guide(one) for one in listed)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            raise RequestError(f'{name} is {value!r:.60}; give an object of its fields, such as {{"scale": 2}}')
        if unknown := [key for key in value if key not in hints]:
            raise RequestError(f"{name} has no field {unknown[0]!r}; its fields are {', '.join(hints)}")
        held = now or kind()
        own = {key: _converted(hints[key], f"{name}.{key}", one, getattr(held, key)) for key, one in value.items()}
        return replace(held, **own)
    if get_origin(kind) is tuple:
        shares, count = value.split() if isinstance(value, str) else value, len(get_args(kind))
        if not isinstance(shares, list) or len(shares) != count:
            raise RequestError(f"{name} is {value!r:.60}; it must be {count} numbers, such as 0.1 0.8")
        return tuple(_converted(float, name, share, None) for share in shares)
    if kind is bool:
        if str(value).lower() not in SWITCH:
            raise wrong
        return SWITCH[str(value).lower()]
    if kind in (int, float):
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | str) else float(value)
        except (ValueError, OverflowError):
            raise wrong from None
        if not math.isfinite(number) or (kind is int and number != int(number)):
            raise wrong
        return kind(number)
    if not isinstance(value, str):
        raise wrong
    return value
