"""The smallest recipe, runs of it, and what they leave behind. Loads little, for processes that are to be killed."""

import json
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from daguerre.train import checkpoint, loop
from daguerre.train.config import Loop, Optimizer
from daguerre.train.randomness import normal

LAST = 400  # step of `fit_line`


def quick(rate: float = 1e-2, **changes: Any) -> loop.Stage:
    """Six steps at a rate, a checkpoint after every second; or what `changes` make of the loop."""
    usual = {"steps": 6, "batch": 4, "save_every": 2, "sample_every": 1000, "validate_every": 1000, "log_every": 1}
    return loop.Stage(loop=Loop(**{**usual, **changes}), optimizer=Optimizer(learning_rate=rate, warmup=2), patience=0)


QUICK = quick()


class Line:
    """Fits a line to points drawn for each step; its samples are its weights as text."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.trained = nn.Linear(4, 1)

    def loss(self, step: int, part: range) -> tuple[torch.Tensor, dict[str, float]]:
        x = normal(0, "points", step, part, (4,))
        return (self.trained(x) - x.sum(dim=1, keepdim=True)).square().mean(), {"seen": float(step)}

    def sample(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(self.trained.weight.tolist()))


def finish(recipe: loop.Recipe, stage: loop.Stage, run: Path) -> list[dict[str, Any]]:
    return list(loop.train(recipe, stage, run))


def fit_line(run: str, told: Connection) -> None:
    """A process's work: many short steps, each told of, with a save after every fifth."""
    torch.set_num_threads(1)
    for record in loop.train(Line(), quick(steps=LAST, save_every=5), Path(run)):
        told.send(record["step"])


def save_once(run: str | Path, steps: int = 5) -> None:
    """A process's work: what is left of a run up to a step, by default one step and its save."""
    torch.set_num_threads(1)
    list(loop.train(Line(), quick(steps=steps), Path(run)))


def newest_step(run: Path) -> int:
    found = checkpoint.newest(run)
    assert found is not None
    return int(found[0]["step"])


def state(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All tensors of the newest checkpoint, by part and name."""
    found = checkpoint.newest(run)
    assert found is not None
    return found[1]


def journal(run: Path) -> list[dict[str, Any]]:
    """The log of a run, without the time that steps took."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same(run: Path, other: Path) -> None:
    """Weights, averaged weights, optimizers and second players are equal to the last bit, and so are the logs."""
    a, b = state(run), state(other)
    assert a.keys() == b.keys()
    for part in a:
        assert a[part].keys() == b[part].keys()
        assert not [name for name in a[part] if not torch.equal(a[part][name], b[part][name])], part
    assert journal(run) == journal(other)
