"""A grid before it is drawn: what stands in each cell, checked whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

from ...request import MAX_SEED, RANDOM_SEED, RequestError, TextToImage
from ..drawing import settled
from ..hires import passes
from .axes import Axis, Value, read_axis
from .job import Job, Setup

MAX_CELLS = 10_000
Check = Callable[[Setup], object]


class Words(NamedTuple):
    """A line of a label; what is not in its cells is struck out."""

    text: str
    is_active: bool = True


Label = tuple[Words, ...]  # a line each; none for a side without an axis


@dataclass(frozen=True)
class Plan:
    """Cell (x, y, z) is `jobs[(z * rows + y) * columns + x]`."""

    columns: tuple[Label, ...]  # at least one on each side
    rows: tuple[Label, ...]
    sheets: tuple[Label, ...]
    jobs: tuple[Job, ...]
    script: Mapping[str, str] = field(default_factory=dict)  # what an infotext says of it, as A1111 does

    def at(self, index: int) -> tuple[int, int, int]:
        """Column, row and sheet of a job."""
        rest, x = divmod(index, len(self.columns))
        z, y = divmod(rest, len(self.rows))
        return x, y, z

    def title(self, index: int) -> str:
        """What a cell's labels say, in one line."""
        x, y, z = self.at(index)
        lines = (*self.columns[x], *self.rows[y], *self.sheets[z])
        return ", ".join(line.text for line in lines if line.is_active and line.text)


def plan_grid(job: Job, x: str = "", y: str = "", z: str = "", *, check: Check = lambda setup: None) -> Plan:
    """All cells of a grid over up to three axes, as `read_axis` reads them.

    `check` refuses a setup whose files cannot be used, by a ValueError or OSError. Raises RequestError, that names
    axis and value, for whatever cannot be drawn, an axis without effect, and more than MAX_CELLS cells.
    """
    base = replace(job, request=seeded(job.request))
    axes = [read_axis(text, base) if text else None for text in (x, y, z)]
    if not any(axes):
        raise RequestError('a grid needs an axis, such as x = "steps: 10, 20, 30"')
    values = [axis.values if axis else (Value("", lambda one: one),) for axis in axes]
    count = len(values[0]) * len(values[1]) * len(values[2])
    if count > MAX_CELLS:
        sides = " x ".join(str(len(side)) for side in values)
        raise RequestError(f"the grid would have {sides} = {count:,} cells; the limit is {MAX_CELLS:,}")
    for axis in axes:
        if axis is not None:
            _check_alone(axis, base, check)
    order = sorted(range(3), key=lambda i: getattr(axes[i], "late", 0))
    jobs = []
    for cell in product(*reversed(values)):
        made, (at_z, at_y, at_x) = base, cell
        for i in order:
            made = _changed(made, (at_x, at_y, at_z)[i], axes[i])
        jobs.append(replace(made, request=_varied(made.request)))
    script = {"Script": "X/Y/Z plot"}
    for letter, axis in zip("XYZ", axes, strict=True):
        if axis:
            script |= {f"{letter} Type": axis.name, f"{letter} Values": axis.typed}
    columns, rows, sheets = (tuple((Words(value.label),) if value.label else () for value in side) for side in values)
    plan = Plan(columns, rows, sheets, tuple(jobs), script)
    _check_together(plan, axes)
    return plan


def seeded(request: TextToImage) -> TextToImage:
    """The request for one picture, its seeds drawn, so that cells differ in nothing but their axes."""
    if request.count != 1:
        raise RequestError(f"count is {request.count}; a cell has one picture: for more take an axis, seed: 1-4")
    return replace(request, seed=settled(request).seed)


def _varied(request: TextToImage) -> TextToImage:
    """With a variation seed, where one is used: all cells of a seed the same, and the same when a grid goes on."""
    if request.variation_seed != RANDOM_SEED or request.variation_strength == 0:
        return request
    return replace(request, variation_seed=(request.seed + 1) % (MAX_SEED + 1))


def _changed(job: Job, value: Value, axis: Axis | None) -> Job:
    try:
        return value.change(job)
    except RequestError as error:
        raise RequestError(f"axis {axis.name if axis else ''!r}, value {value.label!r}: {error}") from error


def _check_alone(axis: Axis, base: Job, check: Check) -> None:
    """Raises RequestError for a value that cannot be drawn whatever the other axes say."""
    if axis.late:
        return
    for value in axis.values:
        try:
            job = value.change(base)
            passes(job.request)
            if job.setup != base.setup:
                check(job.setup)
        except (ValueError, OSError) as error:
            raise RequestError(f"axis {axis.name!r}, value {value.label!r}: {error}") from error


def _check_together(plan: Plan, axes: Sequence[Axis | None]) -> None:
    """Raises RequestError for a cell that cannot be drawn, and for an axis that changes nothing."""
    for i, job in enumerate(plan.jobs):
        try:
            passes(job.request)
        except RequestError as error:
            raise RequestError(f"cell {plan.title(i)!r}: {error}") from error
    for side, axis in enumerate(axes):
        if axis is None or len(axis.values) == 1:
            continue
        places = [plan.at(i) for i in range(len(plan.jobs))]
        kept = {(p[:side] + p[side + 1 :], job) for p, job in zip(places, plan.jobs, strict=True)}
        if len(kept) == len(plan.jobs) // len(axis.values):
            raise RequestError(f"axis {axis.name!r} changes nothing in this grid")
