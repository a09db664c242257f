"""`daguerre train`: a recipe file, with changes, to a run and its results."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..request import RequestError
from .exit import UNUSABLE, Failure
from .kinds import Switch
from .training_progress import TrainingProgress

if TYPE_CHECKING:
    from ..train.config import Run
    from ..train.tintype import Plan

STAGES = ("autoencoder", "clip", "unet")
SCRATCH = "scratch"
REMEDY = "`daguerre data build illustrations` makes it, or --pictures names another"
BESIDE = ("upscaler", "preview", "vision")  # small networks of a model's, trained alone


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    """What to train on, from what, and how far.

    Parameters
    ----------
    pictures
        Your pictures, a folder or a table, in place of the recipe's.
    run
        The folder for checkpoints, samples, report and results, in place of the recipe's.
    base
        What to start from: tintype, a model file or folder, or a name that `daguerre models list` shows.
    resume
        Go on with the run in this folder; no recipe is needed.
    minutes
        Stop after so long; a checkpoint is saved first.
    allow_changes
        Go on although settings, pictures or machine have changed; the run is then marked as not exact.
    find_rate
        Do not train: try learning rates and suggest one.
    settings
        Do not train: print every setting of the recipe with its value.
    stages
        For recipe "scratch", only these: autoencoder, clip, unet.
    export
        For recipe "scratch", write the averaged weights as one model file at the end.
    quiet
        Print nothing but the results' paths.
    """

    pictures: Path | None = None
    run: Path | None = None
    base: str | None = None
    resume: Path | None = None
    minutes: float = float("inf")
    allow_changes: Switch = False
    find_rate: Switch = False
    settings: Switch = False
    stages: list[str] | None = None
    export: Path | None = None
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False


def train(
    recipe: Path | None = None,
    /,
    *changes: Annotated[str, Parameter(allow_leading_hyphen=True)],
    flags: TrainingFlags = TrainingFlags(),
) -> None:
    """Train a model, an adapter or a new word; repeat the command, or --resume, to go on where it stopped.

    Parameters
    ----------
    recipe
        A TOML file; those in `recipes/` are a start, and docs/training.md explains them.
    changes
        Settings in place of the file's, such as loop.steps=500 or data.flip=true.
    """
    from ..train import recipe_file

    if flags.resume and recipe:  # what stands first is a change then
        recipe, changes = None, (str(recipe), *changes)
    if (recipe is None) == (flags.resume is None):
        raise Failure("name a recipe file, or a run with --resume", UNUSABLE)
    values, where = (recipe_file.read(recipe), str(recipe)) if recipe else ({}, "")
    recipe_file.override(values, _joined(changes))
    if values.get("recipe", "") == SCRATCH:
        return _scratch(_plan(values, where, flags), flags)
    if values.get("recipe", "") in BESIDE:
        return _beside(values, where, flags)
    if flags.stages or flags.export:
        raise Failure("--stages and --export are for recipe 'scratch'; others write results by [output]", UNUSABLE)
    config = _resumed(flags.resume, values) if flags.resume else _config(values, where, flags)
    if flags.settings:
        print(recipe_file.text_of(recipe_file.plain(config)), end="")
        return None
    if flags.find_rate:
        return _find_rate(config)
    from ..train import runs

    records = runs.train(config, stop=time.time() + flags.minutes * 60, allow_changes=flags.allow_changes)
    if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun began, the first one talks
        for _ in records:
            pass
        return None
    return _follow(records, config.loop.steps, config.loop.log_every, quiet=flags.quiet)


def _joined(changes: tuple[str, ...]) -> list[str]:
    """ "--loop.steps 100" as "loop.steps=100"."""
    found: list[str] = []
    waiting = ""
    for change in changes:
        if waiting:
            found.append(f"{waiting}={change}")
            waiting = ""
        elif change.startswith("--") and "=" not in change:
            waiting = change.removeprefix("--")
        else:
            found.append(change)
    if waiting:
        raise RequestError(f"--{waiting} has no value; write NAME=VALUE, such as loop.steps=100")
    return found


def _config(values: dict[str, Any], where: str, flags: TrainingFlags) -> "Run":
    from ..train.config import Run
    from ..train.recipe_file import filled

    if flags.pictures is not None:
        data = values.setdefault("data", {})
        sources = data.get("sources") or [{}]
        if len(sources) > 1:
            raise RequestError(
                f"{where} has {len(sources)} sources of pictures, so --pictures is not clear; change data.sources"
            )
        data["sources"] = [{**sources[0], "path": str(flags.pictures)}]
    values |= {k: str(v) for k, v in (("run", flags.run), ("base", flags.base)) if v is not None}
    config = filled(Run, values, where)
    return _with_base(config)


def _resumed(folder: Path, values: dict[str, Any]) -> "Run":
    from dataclasses import replace

    from ..train.config import Run
    from ..train.recipe_file import filled
    from ..train.runs import settings_of

    config = settings_of(folder)
    return replace(filled(Run, values, "the command", config), run=folder) if values else config


def _with_base(config: "Run") -> "Run":
    """The run with its base's name turned into a path, as `daguerre models list` knows it."""
    from dataclasses import replace

    from ..files.built_in import BUILT_IN
    from .models import find

    if config.base == BUILT_IN:
        return config
    return replace(config, base=str(find(config.base).path))


def _follow(records: Iterator[Mapping[str, Any]], steps: int, every: int, *, quiet: bool) -> None:
    """Shows progress until the end, or until the user interrupts: then the step at hand is finished and saved."""
    with TrainingProgress(steps, every, quiet=quiet) as progress, _interruption() as interrupted:
        for record in records:
            progress.tell(record)
            if interrupted:
                records.close()  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            for path in record.get("files", ()):
                print(path, flush=True)


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that holds something once the user has pressed Ctrl-C; the second time ends the process."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        print("stopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _find_rate(config: "Run") -> None:
    from ..train.runs import find_rate

    found, picture = find_rate(config)
    print(f"optimizer.learning_rate={found.rate:.2g}")
    print(picture)


def _beside(values: dict[str, Any], where: str, flags: TrainingFlags) -> None:
    from ..train import enlarging, vision_tower
    from ..train.recipe_file import filled
    from .models import resolve

    sees = values["recipe"] == "vision"
    given = (("pictures", flags.pictures), ("run", flags.run), ("base", flags.base))
    values |= {k: str(v) for k, v in given if v is not None}
    plan: Any = filled(vision_tower.Seeing if sees else enlarging.Enlarging, values, where)
    if not plan.pictures.is_file():
        raise Failure(f"{plan.pictures}: no such file; {REMEDY}", UNUSABLE)
    stop = time.time() + flags.minutes * 60
    work = vision_tower.train if sees else enlarging.train
    records = work(plan, resolve(plan.base), stop, allow_changes=flags.allow_changes)
    _follow(records, plan.loop.steps, plan.loop.log_every, quiet=flags.quiet)


def _plan(values: dict[str, Any], where: str, flags: TrainingFlags) -> "Plan":
    from ..train.recipe_file import filled
    from ..train.tintype import Plan

    given = {k: str(v) for k, v in (("pictures", flags.pictures), ("run", flags.run)) if v is not None}
    values = {k: v for k, v in values.items() if k != "recipe"} | given
    for name in ("pictures", "run"):
        if name not in values:
            raise RequestError(f"{where}: {name!r} is missing; set it there or by --{name}")
    return filled(Plan, values, where)


def _scratch(plan: "Plan", flags: TrainingFlags) -> None:
    from ..train import tintype
    from ..train.recipe_file import require

    for name in flags.stages or ():
        require("stage", name, STAGES)
    if not plan.pictures.is_file():
        raise Failure(f"{plan.pictures}: no such file; {REMEDY}", UNUSABLE)
    wanted = tuple(name for name in STAGES if name in (flags.stages or STAGES))
    records = tintype.train(plan, wanted, flags.minutes, allow_changes=flags.allow_changes)
    total = sum(getattr(plan, stage).loop.steps for stage in wanted)
    _follow(records, total, 20, quiet=flags.quiet)
    if flags.export:
        tintype.export(plan, flags.export)
        print(flags.export)
