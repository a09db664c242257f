"""`daguerre prompts`: a picture for each line of a file."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..request import RequestError
from .drawing import AS_TYPED, TextFlags
from .grid import folder_for, seeded
from .kinds import Json, Switch

MAX_BYTES = 16 << 20


def prompts(
    file: Path,
    /,
    *,
    flags: TextFlags = AS_TYPED,
    out: Path | None = None,
    resume: Switch = False,
    next_seeds: Switch = False,
    json_lines: Json = False,
) -> None:
    """Draw a picture for each line of a file: a prompt, flags as A1111 reads them, or a JSON object.

    Parameters
    ----------
    file
        A text file. What a line does not say is as the flags here say; a line may name another model.
    out
        The folder, whose cells/ the pictures go to; by default a new one in outputs/.
    resume
        Go on in the folder of before; only what is missing is drawn.
    next_seeds
        The next seed for each line; otherwise all lines have the same.
    json_lines
        Print one JSON object per picture.
    """
    from ..generate.explore.job import Job
    from ..generate.explore.prompt_file import read_prompts
    from .explore import checker, defaults_of, draw_all, spoken

    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: it is not UTF-8 text; write one prompt a line") from error
    if len(data) > MAX_BYTES:
        raise RequestError(f"{file}: more than {MAX_BYTES >> 20} MB; draw it in parts")
    folder = folder_for(out, "prompts", file.stem, resume=resume)
    fields = seeded(flags.fields(prompt=""), folder)
    base = Job(replace(defaults_of(flags.with_model), **fields), flags.setup())
    check = cache(checker(flags.with_model))

    def finished(jobs: "list[Job]") -> "tuple[Job, ...]":
        check(jobs[0].setup)  # that of the whole line
        return spoken(jobs, flags)

    try:
        jobs = read_prompts(text, base, next_seeds=next_seeds, finished=finished)
    except RequestError as error:
        raise RequestError(f"{file}: {error}") from error
    titles = [job.request.prompt for job in jobs]
    for done in draw_all(jobs, flags, folder / "cells", titles, quiet=json_lines):
        told = {"path": str(done.path), "seed": jobs[done.index].request.seed, "prompt": titles[done.index]}
        print(json.dumps(told) if json_lines else done.path, flush=True)
