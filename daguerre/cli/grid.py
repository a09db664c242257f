"""`daguerre grid` and `daguerre matrix`: pictures that differ in what their labels say, side by side."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.durable import durable_new
from ..provenance import infotext, png
from ..request import RANDOM_SEED, RequestError, TextToImage
from .drawing import AS_TYPED, TextFlags
from .files import folder_and_file, slug
from .flags import refuse_alone
from .kinds import Json, Switch

if TYPE_CHECKING:
    from ..generate.explore.cells import Done
    from ..generate.explore.plan import Plan
    from ..generate.explore.sheet import Look


def grid(
    prompt: str,
    /,
    *,
    x: str = "",
    y: str = "",
    z: str = "",
    flags: TextFlags = AS_TYPED,
    out: Path | None = None,
    resume: Switch = False,
    margin: int = 0,
    labels: bool = True,
    sheets: Switch = False,
    json_lines: Json = False,
) -> None:
    """Draw one picture for each combination of values, and all of them in one, with labels.

    An axis is "NAME: VALUES", such as "steps: 5, 10, 20", "cfg_scale: 1-9 (+2)", "sampler: Euler a, DPM++ 2M",
    "S/R: red, green", "lora weight: 0-1 [5]", "model: a.safetensors, b.safetensors". Quotes keep a comma in a value:
    'guides: none, freeu+sag, "pag:scale=2,layers=mid_attn+decoder.1"'. Ctrl-C keeps what is done.

    Parameters
    ----------
    prompt
        What to draw.
    x
        The axis from left to right.
    y
        The axis from top to bottom.
    z
        The axis from sheet to sheet.
    out
        The folder for grid.png and, in cells/, each picture; by default a new one in outputs/.
    resume
        Go on in the folder of before, also with more values: only what is missing is drawn.
    margin
        Pixels between cells.
    labels
        Whether labels are drawn.
    sheets
        Also save each value of z as a grid of its own.
    json_lines
        Print one JSON object per picture.
    """
    from ..generate.explore.job import Job
    from ..generate.explore.plan import plan_grid
    from ..generate.explore.sheet import Look
    from .explore import checker, defaults_of, draw_all, flags_of, spoken

    refuse_alone("--sheets", sheets, "--z", z)
    look, check = Look(labels, margin), checker(flags.with_model)
    folder = folder_for(out, "grid", prompt, resume=resume)
    fields, setup = seeded(flags.fields(prompt=prompt), folder), flags.setup()
    first = plan_grid(Job(TextToImage(**fields), setup), x, y, z, check=check).jobs[0].setup
    request = replace(defaults_of(flags_of(first, flags.with_model)), **fields)  # those of an axis's first model
    plan = plan_grid(Job(request, setup), x, y, z)
    plan = replace(plan, jobs=spoken(plan.jobs, flags))
    _drawn(plan, partial(draw_all, flags=flags), folder, look, json_lines, sheets)


def matrix(
    prompt: str,
    /,
    *,
    flags: TextFlags = AS_TYPED,
    out: Path | None = None,
    resume: Switch = False,
    at_start: Switch = False,
    different_seeds: Switch = False,
    margin: int = 0,
    labels: bool = True,
    json_lines: Json = False,
) -> None:
    """Draw a prompt with and without each of its parts: "a cat|with a hat|blue" gives four pictures.

    Parameters
    ----------
    prompt
        What all pictures show, and behind each | a part that half of them have.
    out
        The folder for grid.png and, in cells/, each picture; by default a new one in outputs/.
    resume
        Go on in the folder of before; only what is missing is drawn.
    at_start
        Put the parts before the rest, where they count more.
    different_seeds
        The next seed for each picture.
    margin
        Pixels between cells.
    labels
        Whether labels are drawn.
    json_lines
        Print one JSON object per picture.
    """
    from ..generate.explore.job import Job
    from ..generate.explore.matrix import plan_matrix
    from ..generate.explore.sheet import Look
    from .explore import defaults_of, draw_all, spoken

    look = Look(labels, margin)
    folder = folder_for(out, "matrix", prompt, resume=resume)
    fields = seeded(flags.fields(prompt=prompt), folder)
    TextToImage(**fields)  # says what is wrong before a file is opened for it
    job = Job(replace(defaults_of(flags.with_model), **fields), flags.setup())
    plan = plan_matrix(job, at_start=at_start, different_seeds=different_seeds)
    plan = replace(plan, jobs=spoken(plan.jobs, flags))
    _drawn(plan, partial(draw_all, flags=flags), folder, look, json_lines)


def _drawn(
    plan: "Plan",
    draw: "Callable[..., Iterator[Done]]",
    folder: Path,
    look: "Look",
    json_lines: bool,
    sheets: bool = False,
) -> None:
    """Draws what is missing, then composes; an interruption composes what is there."""
    from ..generate.explore.sheet import compose_sheets

    titles = [plan.title(i) or job.request.prompt for i, job in enumerate(plan.jobs)]
    paths: list[Path | None] = [None] * len(plan.jobs)
    try:
        for done in draw(jobs=plan.jobs, folder=folder / "cells", titles=titles, quiet=json_lines):
            paths[done.index] = done.path
            if json_lines:
                print(json.dumps({"path": str(done.path), "cell": titles[done.index]}), flush=True)
    except BaseException:
        if any(paths):
            there = sum(path is not None for path in paths)
            told = f"stopped: {there} of {len(paths)} cells are in {folder}, add --resume to go on"
            print(f"{_composed(plan, paths, look, folder / 'grid-so-far.png')}: {told}", file=sys.stderr)
        raise
    path = _composed(plan, paths, look, folder / "grid.png")
    print(json.dumps({"grid": str(path)}) if json_lines else path)
    if sheets and len(plan.sheets) > 1:
        for z, page in enumerate(compose_sheets(plan, paths, look)):
            label = " ".join(words.text for words in plan.sheets[z])
            print(durable_new(folder / f"grid-{z + 1}-{slug(label)}.png", png.encode_said(page, label)))


def _composed(plan: "Plan", paths: "Sequence[Path | None]", look: "Look", wanted: Path) -> Path:
    """Writes the grid, which says of itself what other programs say of theirs."""
    from ..generate.explore.sheet import compose

    record = next(record for path in paths if path and (record := png.read(path)[0]))
    pairs = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in plan.script.items())
    said = f"{infotext.write(record)}, {pairs}"
    return durable_new(wanted, png.encode_said(compose(plan, paths, look), said))


def folder_for(out: Path | None, kind: str, prompt: str, *, resume: bool) -> Path:
    """Where pictures go: the folder named, or a new one in outputs/; to go on, the last one of that name."""
    if out is not None:
        folder_and_file(out)
        if not resume and (out / "cells").exists():
            raise RequestError(f"{out}: there are pictures of before; add --resume to go on with them")
        return out
    name = f"{kind}-{slug(prompt)}"
    names = (Path("outputs") / (name if n == 1 else f"{name}-{n}") for n in count(1))
    free = next(i for i, path in enumerate(names) if not path.exists())
    if resume and free == 0:
        raise RequestError(f"outputs/{name}: there is nothing to go on with; leave out --resume, or name --out")
    n = free if resume else free + 1
    return Path("outputs") / (name if n == 1 else f"{name}-{n}")


def seeded(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields given, with the seed that the pictures of before were drawn with, if it was a random one."""
    if given.get("seed", RANDOM_SEED) != RANDOM_SEED:
        return given
    for path in sorted((folder / "cells").glob("*.png")):
        record, _ = png.read(path)
        if record is not None:
            return {**given, "seed": record.request.seed}
    return given
