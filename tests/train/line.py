"""The smallest recipe, runs of it, and what they leave behind. Loads little, for processes that are to be killed."""

import json
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from daguerre.train import checkpoint, loop

QUICK = loop.Settings(steps=6, batch=4, learning_rate=1e-2, warmup=2, save_every=2, sample_every=1000, log_every=1)
LAST = 400  # step of `fit_line`


class Line:
    """Fits a line to points drawn for each step; its samples are its weights as text."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.trained = nn.Linear(4, 1)

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (self.trained(x) - x.sum(dim=1, keepdim=True)).square().mean(), {"seen": float(step)}

    def sample(self, path: Path) -> None:
        path.write_text(json.dumps(self.trained.weight.tolist()))


def finish(recipe: loop.Recipe, s: loop.Settings, run: Path) -> list[dict[str, object]]:
    return list(loop.train(recipe, s, run))


def fit_line(run: str, told: Connection) -> None:
    """A process's work: many short steps, each told of, with a save after every fifth."""
    torch.set_num_threads(1)
    for record in loop.train(Line(), replace(QUICK, steps=LAST, save_every=5), Path(run)):
        told.send(record["step"])


def state(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All tensors of the newest checkpoint, by part and name."""
    found = checkpoint.newest(run)
    assert found is not None
    return found[1]


def journal(run: Path) -> list[dict[str, object]]:
    """The log of a run, without the time that steps took."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
