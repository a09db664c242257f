"""What the commands that draw many pictures share: setups to models, progress, and words about both."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..request import RequestError, TextToImage
from .drawing import TextFlags, step_count
from .exit import Failure
from .files import check_writable, slug
from .flags import ModelFlags
from .models import find
from .progress import Progress

if TYPE_CHECKING:
    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Picture
    from ..generate.explore.cells import Done
    from ..generate.explore.job import Job, Setup


def flags_of(setup: "Setup", flags: ModelFlags) -> ModelFlags:
    """The model that a setup asks for, by default that of the flags."""
    vae = flags.vae if not setup.vae else None if setup.vae.lower() == "none" else Path(setup.vae)
    return replace(flags, model=setup.model or flags.model, vae=vae)


def loader(flags: ModelFlags) -> "Callable[[Setup], Model]":
    """Loads the model of a setup."""
    return lambda setup: flags_of(setup, flags).load()


def defaults_of(flags: ModelFlags) -> TextToImage:
    """The request that suits a model, as its file tells, which is not loaded for it."""
    from ..checkpoints.identify import identify
    from ..families.catalog import FAMILIES
    from ..files.reader import open_checkpoint

    name = flags.family or identify(open_checkpoint(find(flags.model).path)).family
    return TextToImage(prompt="", **(FAMILIES[name].defaults if name in FAMILIES else {}))


def checker(flags: ModelFlags) -> "Callable[[Setup], None]":
    """Raises RequestError for a setup whose files are not there or not of the kind."""
    from ..checkpoints.identify import identify
    from ..files.reader import open_checkpoint

    def check(setup: "Setup") -> None:
        wanted = flags_of(setup, flags)
        try:
            identify(open_checkpoint(find(wanted.model).path))
        except Failure as error:
            raise RequestError(str(error)) from error
        if wanted.vae:
            identify(open_checkpoint(wanted.vae))
        for file in setup.adapters:
            if not file.path.exists():
                raise RequestError(f"{file.path}: there is no such file")

    return check


def said_of(jobs: "Collection[Job]") -> str:
    """What a user wants to know before a long wait, such as "12 pictures, 2 models, 240 steps"."""
    models = len({(job.setup.model, job.setup.vae) for job in jobs})
    steps = sum(step_count(job.request) for job in jobs)
    return f"{len(jobs):,} pictures, {models} {'model' if models == 1 else 'models'}, {steps:,} steps"


def spoken(jobs: "Iterable[Job]", flags: TextFlags) -> "tuple[Job, ...]":
    """The jobs with their styles and choices made.

    Raises an error for prompts that cannot be read or name what is not there, and for a clip skip that a model has no
    layers for: all that would stop a drawing halfway.
    """
    made = tuple(replace(job, request=flags.language.requests(job.request)[0]) for job in jobs)
    for request in {replace(job.request, seed=0, variation_seed=0): None for job in made}:
        flags.language.read(request)
    for job in {(job.setup.model, job.request.clip_skip): job for job in made}.values():
        _check_clip_skip(job, flags.with_model)
    return made


def _check_clip_skip(job: "Job", flags: ModelFlags) -> None:
    from ..families.loading import most_clip_skip

    if (asked := job.request.clip_skip) == 1:
        return
    wanted = flags_of(job.setup, flags)
    base = find(wanted.base).path if wanted.base else None
    most = most_clip_skip(find(wanted.model).path, base=base, family=wanted.family)
    if most is not None and asked > most:
        raise RequestError(f"clip_skip is {asked}; the text encoder of {wanted.model} allows at most {most}")


def draw_all(
    jobs: "Sequence[Job]", flags: TextFlags, folder: Path, titles: Sequence[str], *, quiet: bool = False
) -> "Iterator[Done]":
    """Draws into a folder what is not there yet; tells of it on standard error, and of each file to the caller.

    The jobs are as `spoken` makes them; the flags say where their LoRAs and embeddings are.
    """
    from ..generate.explore.cells import Begun, Done, draw_cells, there_already
    from ..generate.text_to_image import text_to_image

    check_writable(folder)
    named, steered = replace(flags.language, style=(), styles=None), flags.around(text_to_image)

    def task(model: "Model", request: TextToImage) -> "Iterator[Step | Picture]":
        return named.drawn(model, request, (), steered)

    left = set(jobs) - there_already(folder, jobs).keys()
    if not quiet:
        print(f"{len(jobs):,} cells; to draw: {said_of(left)}", file=sys.stderr)
    names = [f"{job.request.seed}-{slug(title)}" for job, title in zip(jobs, titles, strict=True)]
    steps, begun = 0, 0
    with Progress(sum(step_count(job.request) for job in left), 1, quiet=quiet) as progress:
        bar = progress.bar
        for event in draw_cells(jobs, loader(flags.with_model), folder, names=names, task=task):
            if isinstance(event, Begun):
                begun += 1
                bar.update(progress.task, description=f"{begun} of {len(left)}: {titles[event.index]}"[:60])
            elif isinstance(event, Done):
                took = "there already" if event.seconds is None else f"{event.seconds:.1f} s"
                if not quiet:
                    bar.console.print(f"{titles[event.index]}: {took}", style="dim", highlight=False, markup=False)
                yield event
            else:
                steps += 1
                bar.update(progress.task, completed=steps)
