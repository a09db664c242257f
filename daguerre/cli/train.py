"""`daguerre train`: a recipe file to a run of training."""

import sys
import time
import tomllib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request import RequestError
from .exit import UNUSABLE, Failure

if TYPE_CHECKING:
    from ..train.tintype import Plan

STAGES = ("autoencoder", "clip", "unet")
NAMES = {  # bool first: it is an int, too
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple: "a list of whole numbers",
    Path: "a path",
}


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
    for name in stages or ():
        _require("stage", name, STAGES)
    values = _read(recipe)
    values |= {k: str(v) for k, v in (("pictures", pictures), ("run", run)) if v is not None}
    from ..train import tintype

    plan = _plan(values, recipe)
    if not plan.pictures.is_file():
        raise Failure(f"{plan.pictures}: no such file; name the pictures with --pictures", UNUSABLE)
    wanted = tuple(name for name in STAGES if name in (stages or STAGES))
    begun = time.monotonic()
    for record in tintype.train(plan, wanted, minutes):
        if record["step"] % 20 == 0:
            figures = ", ".join(f"{k} {v:.4g}" for k, v in record.items() if k not in ("stage", "step"))
            clock = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - begun))
            print(f"{clock} {record['stage']} step {record['step']}: {figures}", file=sys.stderr, flush=True)
    if export:
        tintype.export(plan, export)
        print(export)


def _read(recipe: Path) -> dict[str, Any]:
    with recipe.open("rb") as file:
        try:
            return tomllib.load(file)
        except ValueError as error:
            raise RequestError(f"{recipe} is not a TOML file: {error}") from error


def _plan(values: dict[str, Any], recipe: Path) -> "Plan":
    from ..train.tintype import Plan

    plan: Plan = _filled(Plan(pictures=Path(), run=Path()), values, str(recipe))
    for name in ("pictures", "run"):
        if name not in values:
            raise RequestError(f"{recipe}: {name!r} is missing; set it there or by --{name}")
    return plan


def _filled(standard: Any, values: dict[str, Any], where: str) -> Any:
    """A config with the values of a TOML table, each of the type that it has in `standard`."""
    changed = {}
    for key, value in values.items():
        _require(f"{where}: key", key, [field.name for field in fields(standard)])
        before = getattr(standard, key)
        if is_dataclass(before):
            if not isinstance(value, dict):
                raise RequestError(f"{where}: {key} is {value!r}; it should be a table of settings")
            changed[key] = _filled(before, value, f"{where}: [{key}]")
        else:
            changed[key] = _converted(f"{where}: {key}", type(before), value)
    return replace(standard, **changed)


def _converted(where: str, kind: type, value: Any) -> Any:
    given = type(value)
    if given is kind or (kind is float and given is int):
        return value
    if issubclass(kind, Path) and given is str:
        return Path(value)
    if kind is tuple and given is list and all(type(item) is int for item in value):
        return tuple(value)
    wanted = next(name for known, name in NAMES.items() if issubclass(kind, known))
    raise RequestError(f"{where} is {value!r}; it should be {wanted}")


def _require(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise RequestError(f"{what} {name!r} is unknown; {hint}")
