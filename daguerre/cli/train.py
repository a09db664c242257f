"""`daguerre train`: a recipe file to a run of training."""

import sys
import time
import tomllib
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request import RequestError
from .exit import UNUSABLE, Failure

if TYPE_CHECKING:
    from ..train.tintype import Plan

STAGES = ("autoencoder", "clip", "unet")


def train(
    recipe: Path,
    /,
    *,
    pictures: Path | None = None,
    run: Path | None = None,
    stages: list[str] | None = None,
    minutes: float = float("inf"),
    export: Path | None = None,
) -> None:
    """Train the built-in model from captioned pictures; repeat the command to go on where it stopped.

    Parameters
    ----------
    recipe
        A TOML file: pictures, run, seed, and a table of settings for each stage.
    pictures
        The Parquet file of captioned pictures, in place of the recipe's.
    run
        The folder for checkpoints, samples and the log, in place of the recipe's.
    stages
        Only these: autoencoder, clip, unet.
    minutes
        Stop after so long; a checkpoint is saved first.
    export
        Write the averaged weights as one model file at the end.
    """
    wanted = tuple(stages or STAGES)
    for name in wanted:
        _near("stage", name, STAGES)
    values = tomllib.loads(recipe.read_text())
    values |= {k: str(v) for k, v in (("pictures", pictures), ("run", run)) if v is not None}
    from ..train import tintype

    plan = _plan(values, recipe)
    if not plan.pictures.is_file():
        raise Failure(f"{plan.pictures}: no such file; name the pictures with --pictures", UNUSABLE)
    begun = time.monotonic()
    for record in tintype.train(plan, wanted, minutes):
        if record["step"] % 20 == 0:
            figures = ", ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in ("stage", "step"))
            clock = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - begun))
            print(f"{clock} {record['stage']} step {record['step']}: {figures}", file=sys.stderr, flush=True)
    if export:
        tintype.export(plan, export)
        print(export)


def _plan(values: dict[str, Any], recipe: Path) -> "Plan":
    from ..train.autoencoder import Objective
    from ..train.tintype import Plan

    known = {f.name: f for f in fields(Plan)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        _near(f"{recipe}: key", key, known)
        if isinstance(value, dict):
            standard = Objective() if key == "objective" else known[key].default
            for inner in value:
                _near(f"{recipe}: [{key}] key", inner, [f.name for f in fields(standard)])
            value = replace(standard, **value)
        given[key] = Path(value) if key in ("pictures", "run") else value
    if missing := [name for name in ("pictures", "run") if name not in given]:
        raise RequestError(f"{recipe}: {missing[0]!r} is missing; set it there or by --{missing[0]}")
    return Plan(**given)


def _near(what: str, name: str, known: Any) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise RequestError(f"{what} {name!r} is unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
