"""Optimizers by name, with a learning rate per group of parameters, and all of their state as named tensors."""

import inspect
import logging
import os
import pkgutil
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..request import RequestError
from . import config
from .processes import fill, whole

log = logging.getLogger(__name__)
NAMED = {
    "adamw": "torch.optim:AdamW",
    "adafactor": "torch.optim:Adafactor",  # arXiv:1804.04235
    "adamw8bit": "torchao.optim:AdamW8bit",  # arXiv:2110.02861
    "prodigy": "prodigyopt:Prodigy",  # arXiv:2306.06101
    "schedule_free": "schedulefree:AdamWScheduleFree",  # arXiv:2405.15682
}
FUSED = ("cpu", "cuda", "mps", "xpu")  # devices where AdamW is one kernel
EMBEDDINGS = (
    "*token.weight",
    "*position.weight",
    "*embedding*",
    "vectors.*",
)  # tables, of which a step sees a few rows


def build(
    o: config.Optimizer, named: Mapping[str, nn.Parameter], device: torch.device | None = None
) -> torch.optim.Optimizer:
    """The optimizer of `named`, the trained parameters by native name, all on `device` (None: the CPU).

    A parameter has the rate of the first pattern in `rates` that fits its name, else `learning_rate`. Weight decay
    spares biases, norms and embeddings. Raises RequestError for a pattern that fits nothing, an optimizer or an
    option that does not exist, and a package or a compiler that is missing.
    """
    kind = _find(o.name)
    taken = inspect.signature(kind).parameters
    options = {"betas": o.betas, "weight_decay": 0.0}
    if o.name == "adamw":
        options["fused"] = (device or torch.device("cpu")).type in FUSED
    options = {name: value for name, value in options.items() if name in taken} | _checked(o, taken)
    groups = _groups(o, named, "weight_decay" in taken)
    if o.name == "prodigy":
        if len({group["lr"] for group in groups}) > 1:
            raise RequestError("optimizer.rates: prodigy finds one rate for all parameters; remove the table")
        if o.learning_rate < 0.1:
            log.warning("prodigy multiplies the rate that it finds by learning_rate, %g; 1 is usual", o.learning_rate)
    if o.name == "adamw8bit":
        _require_compiler()
    try:
        optimizer: torch.optim.Optimizer = kind(groups, lr=o.learning_rate, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"optimizer.name {o.name!r} cannot be made of [optimizer]: {error}") from error
    _switch(optimizer, "train")
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Makes each group's learning rate `factor` times its own of the recipe; of optimizers made by `build`."""
    for group in optimizer.param_groups:
        _set(group, group["initial_lr"] * factor)


@contextmanager
def evaluating(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Has the parameters hold what a schedule-free optimizer means to be used, and puts the trained ones back.

    To the same bits, which the optimizer's own way back does not reach. Without effect for other optimizers.
    """
    if not hasattr(optimizer, "eval"):
        yield
        return
    parameters = list(_numbered(optimizer).values())
    held = [p.detach().clone() for p in parameters]
    _switch(optimizer, "eval")
    try:
        yield
    finally:
        _switch(optimizer, "train")
        _put(parameters, held)


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that the optimizer remembers: "parameter number.slot", and "group.number.slot" for its own numbers.

    Parameters are numbered in the order that `build` met them in. Quantized state is told by its inner tensors,
    "parameter number.slot.codes" and so on; sharded state whole, as `processes.whole` does.
    """
    told: dict[str, Tensor] = {}
    for i, parameter in _numbered(optimizer).items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor | int | float):
                kind = f"{type(optimizer).__name__} remembers {slot!r}, a {type(value).__name__}"
                raise RequestError(f"{kind}, which a checkpoint cannot hold; choose another optimizer")
            told |= _flat(f"{i}.{slot}", value)
    for i, group in enumerate(optimizer.param_groups):
        told |= {f"group.{i}.{slot}": _exact(group[slot]) for slot in _remembered(optimizer, group)}
    return told


def restore_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `state_tensors` told, into an optimizer of equal parameters and settings.

    Raises ValueError if it was the state of another optimizer.
    """
    optimizer.state.clear()
    numbered = _numbered(optimizer)
    numbers = sorted({int(key.split(".")[0]) for key in tensors if not key.startswith("group.")})
    if numbers and numbers[-1] not in numbered:
        counts = f"of {numbers[-1] + 1} parameters or more, but {len(numbered)} are trained"
        raise ValueError(f"the checkpoint holds the optimizer's state {counts}; go on with the recipe it began with")
    _lay_out(optimizer, [numbered[i] for i in numbers])
    try:
        for i in numbers:
            slots = optimizer.state[numbered[i]]
            slots.update({slot: _filled(blank, f"{i}.{slot}", tensors) for slot, blank in slots.items()})
        for key, value in tensors.items():
            if key.startswith("group."):
                _, group, slot = key.split(".", 2)
                optimizer.param_groups[int(group)][slot] = value.item()
    except (KeyError, IndexError) as error:
        name = type(optimizer).__name__
        raise ValueError(f"the checkpoint holds another optimizer's state than {name}'s: {error} is missing") from error


def _find(name: str) -> Callable[..., torch.optim.Optimizer]:
    path = NAMED.get(name, name)
    if ":" not in path:
        near = get_close_matches(name, NAMED, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(NAMED)}, or module:Class"
        raise RequestError(f"optimizer.name {name!r} is unknown; {hint}")
    try:
        kind = pkgutil.resolve_name(path)
    except ImportError as error:
        remedy = "pip install 'daguerre[train]'" if name in NAMED else "is it installed, and spelled right?"
        raise RequestError(f"optimizer.name {name!r} cannot be had: {error}; {remedy}") from error
    except (AttributeError, ValueError) as error:
        raise RequestError(f"optimizer.name {name!r} names no class: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise RequestError(f"optimizer.name {name!r} is no torch.optim.Optimizer")
    return kind


def _checked(o: config.Optimizer, taken: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The recipe's options for an optimizer whose constructor has the parameters `taken`."""
    free = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    own = {"lr": "learning_rate", "betas": "betas", "weight_decay": "weight_decay"}
    for option in o.options:
        if option in own:
            raise RequestError(f"optimizer.options: {option} is set by optimizer.{own[option]}")
        if option not in taken and not free:
            near = get_close_matches(option, taken, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(taken)}"
            raise RequestError(f"optimizer.options: {o.name} has no {option!r}; {hint}")
    return dict(o.options)


def _groups(o: config.Optimizer, named: Mapping[str, nn.Parameter], decays: bool) -> list[dict[str, Any]]:
    """Parameter groups by learning rate and weight decay; `places` are their parameters' places in `named`."""
    for pattern in o.rates:
        if not any(fnmatchcase(name, pattern) for name in named):
            near = get_close_matches(pattern, _patterns(named), n=3, cutoff=0.5)
            hint = f"near are {', '.join(near)}" if near else f"there is {next(iter(named), 'none at all')}"
            raise RequestError(f"optimizer.rates: no trained parameter is called {pattern!r}; {hint}")
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for place, (name, parameter) in enumerate(named.items()):
        rate = next((rate for pattern, rate in o.rates.items() if fnmatchcase(name, pattern)), o.learning_rate)
        spared = parameter.ndim < 2 or any(fnmatchcase(name, pattern) for pattern in EMBEDDINGS)
        decay = 0.0 if spared else o.weight_decay
        own = {"weight_decay": decay} if decays else {}
        empty = {"params": [], "places": [], "lr": rate, "initial_lr": rate, **own}
        group = groups.setdefault((rate, decay if decays else 0.0), empty)
        group["params"].append(parameter)
        group["places"].append(place)
    return list(groups.values())


def _patterns(names: Mapping[str, object]) -> list[str]:
    """The names, and each part of the model that has some of them, as in "unet.encoder.*"."""
    starts = {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}
    return [*names, *(f"{start}.*" for start in sorted(starts))]


def _require_compiler() -> None:
    """torchao's optimizer is compiled when it steps first, and says little when it cannot be."""
    compiler = os.environ.get("CXX") or {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        remedy = "install one, name it by the environment variable CXX, or choose adafactor, which saves memory, too"
        raise RequestError(f"optimizer.name 'adamw8bit' needs a C++ compiler, and there is no {compiler!r}; {remedy}")


def _numbered(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """The parameters by number, in rising order."""
    found: dict[int, Tensor] = {}
    for group in optimizer.param_groups:
        places = group.get("places") or range(len(found), len(found) + len(group["params"]))
        found.update(zip(places, group["params"], strict=True))
    return dict(sorted(found.items()))


def _remembered(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> list[str]:
    """The numbers of a group that are state (Prodigy's estimate of the rate, step counts), not settings."""
    settings = {"initial_lr", *inspect.signature(type(optimizer)).parameters}
    return [k for k, v in group.items() if isinstance(v, int | float) and not isinstance(v, bool) and k not in settings]


def _exact(value: Tensor | float) -> Tensor:
    """Python's numbers without a loss: its integers have 64 bits here, its floats are float64."""
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def _flat(key: str, value: Tensor | float) -> dict[str, Tensor]:
    value = whole(value) if isinstance(value, Tensor) else value
    if not isinstance(value, Tensor) or not hasattr(value, "__tensor_flatten__"):
        return {key: _exact(value)}
    told: dict[str, Tensor] = {}
    for name in value.__tensor_flatten__()[0]:
        told |= _flat(f"{key}.{name}", getattr(value, name))
    return told


def _filled(blank: Any, key: str, tensors: Mapping[str, Tensor]) -> Any:
    """What `_flat` told under `key`, in the place of `blank`, which lies in memory as the optimizer wants it."""
    if not isinstance(blank, Tensor):
        return type(blank)(tensors[key].item())
    if key not in tensors and hasattr(blank, "__tensor_flatten__"):
        for name in blank.__tensor_flatten__()[0]:
            _filled(getattr(blank, name), f"{key}.{name}", tensors)
        return blank
    found = tensors[key]
    if found.shape == blank.shape:
        return fill(blank, found)
    if found.ndim and blank.ndim:
        shapes = f"has the shape {tuple(found.shape)} in the checkpoint, not {tuple(blank.shape)}"
        raise ValueError(f"the optimizer's state {key} {shapes}; go on with the recipe that the run began with")
    return found.to(blank.device, copy=True)  # Prodigy keeps a single zero for weights that began as zeros


@torch.no_grad()
def _lay_out(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
    """Has the optimizer make its state for `parameters`, each as it wants it: by a step of rate 0 without a gradient.

    The fused step walks memory, so state must lie as its parameter does, and quantized or sharded state is a matter of
    the optimizer's own; files hold plain order only.
    """
    if not parameters:
        return
    held = [p.detach().clone() for p in parameters]
    before = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    for group in optimizer.param_groups:
        _set(group, 0.0)
    optimizer.step()
    optimizer.zero_grad()
    for group, values, rate in zip(optimizer.param_groups, before, rates, strict=True):
        group.update(values)
        _set(group, rate)
    _put(parameters, held)


def _set(group: dict[str, Any], rate: float) -> None:
    """torchao keeps its rate in a tensor, so that a new one needs no new code."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _switch(optimizer: torch.optim.Optimizer, to: str) -> None:
    """Tells a schedule-free optimizer, and no other, what its parameters are to be used for."""
    switch = getattr(optimizer, to, None)
    if callable(switch):
        switch()


@torch.no_grad()
def _put(parameters: list[Tensor], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
