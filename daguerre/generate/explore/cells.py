"""Draws many pictures into a folder: what is costly to load comes first, and nothing is drawn twice."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from PIL import Image

from ...adapters.adapted import adapted
from ...diffusion.denoiser import Step
from ...families.model import Model
from ...files.durable import durable_new
from ...provenance import png
from ...provenance.record import Record, UsedAdapter, pixel_sha256
from ..drawing import Picture, Task
from ..text_to_image import text_to_image
from .job import Job, Load

DIGEST = re.compile(r"-([0-9a-f]{12})(?:-\d+)?$")  # of a job, at the end of a file's name


@dataclass(frozen=True)
class Begun:
    """A picture is about to be drawn."""

    index: int  # of the jobs


@dataclass(frozen=True)
class Done:
    """A picture lies in its file."""

    index: int
    path: Path
    seconds: float | None  # it took; None where it was there already


def in_order_of_cost(jobs: Sequence[Job]) -> list[int]:
    """All jobs' places, so that each model is loaded once, and each set of adapters once for each model."""
    models: dict[tuple[str, str], int] = {}
    setups: dict[object, int] = {}
    for job in jobs:
        models.setdefault((job.setup.model, job.setup.vae), len(models))
        setups.setdefault(job.setup, len(setups))

    def cost(i: int) -> tuple[int, int, int]:
        setup = jobs[i].setup
        return models[setup.model, setup.vae], setups[setup], i

    return sorted(range(len(jobs)), key=cost)


def draw_cells(
    jobs: Sequence[Job], load: Load, folder: Path, *, names: Sequence[str] = (), task: Task = text_to_image
) -> Iterator[Begun | Step | Done]:
    """Draws what is not in the folder yet. Whatever was done stays there when the caller stops or anything fails.

    A picture is in the folder if a file tells of the same request and setup, and its pixels are those that it tells
    of. No model is loaded that draws nothing; a picture by another model of the same name is drawn anew beside it.
    Files are called by `names`, one for each job, and the job's digest.
    """
    there = there_already(folder, jobs)
    for _, group in groupby(in_order_of_cost(jobs), key=lambda i: (jobs[i].setup.model, jobs[i].setup.vae)):
        cells = list(group)
        if all(jobs[i] in there for i in cells):
            yield from (Done(i, there[jobs[i]][0], None) for i in cells)
            continue
        paths = {i: folder / f"{names[i] if names else jobs[i].request.seed}-{jobs[i].digest}.png" for i in cells}
        yield from _by_one_model(jobs, paths, load, there, task)


def there_already(folder: Path, jobs: Sequence[Job]) -> dict[Job, tuple[Path, Record]]:
    """The jobs whose pictures are in a folder."""
    wanted, found = {job.digest: job for job in jobs}, {}
    for path in sorted(folder.glob("*.png")):
        name = DIGEST.search(path.stem)
        job = wanted.get(name[1]) if name else None
        if job and (record := _record(path)) and record.request == job.request:
            found[job] = path, record
    return found


def _record(path: Path) -> Record | None:
    """What a file tells of its picture, if both are whole."""
    try:
        record, _ = png.read(path)
        with Image.open(path, formats=["PNG"]) as stored:
            return record if record and pixel_sha256(stored) == record.pixel_sha256 else None
    except (ValueError, OSError, Image.DecompressionBombError):
        return None


def _by_one_model(
    jobs: Sequence[Job], paths: Mapping[int, Path], load: Load, there: dict[Job, tuple[Path, Record]], task: Task
) -> Iterator[Begun | Step | Done]:
    """Draws the jobs of `paths`, all of one model, which is let go at the end."""
    plain = load(jobs[next(iter(paths))].setup)
    for adapters, group in groupby(paths, key=lambda i: jobs[i].setup.adapters):
        with adapted(plain, adapters) as (model, used):
            for i in group:
                job = jobs[i]
                if job in there and _same(there[job][1], model, used):
                    yield Done(i, there[job][0], None)
                    continue
                yield Begun(i)
                for event in task(model, job.request):
                    if isinstance(event, Picture):
                        record = replace(event.record, adapters=(*used, *event.record.adapters))
                        path = durable_new(paths[i], png.encode(event.image, record))
                        there[job] = path, record
                        yield Done(i, path, event.seconds)
                    else:
                        yield event


def _same(record: Record, model: Model, used: tuple[UsedAdapter, ...]) -> bool:
    """Whether this model with these adapters has drawn it."""
    made = record.model_sha256, record.vae_sha256, record.adapters[: len(used)]
    return made == (model.sha256, model.vae_sha256 or None, used)
