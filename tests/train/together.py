"""Work for several processes at once: runs of a toy U-Net, each as one process or as two would train it."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from daguerre.models.unet import UNet, UNetConfig
from daguerre.train import loop, processes, runs
from daguerre.train.config import Loop, Optimizer, Run
from daguerre.train.memory import checkpointed
from daguerre.train.randomness import normal

CONFIG = UNetConfig((16,), (1,), 16, head_width=16, blocks=1, groups=4)
LAST = 4
STAGE = loop.Stage(
    loop=Loop(steps=LAST, batch=8, accumulate=2, ema=0.5, save_every=2, sample_every=2, validate_every=2, log_every=1),
    optimizer=Optimizer(learning_rate=1e-5),
)
FAST = replace(STAGE, optimizer=Optimizer(learning_rate=1e-2, name="schedule_free"))


class Denoise:
    """The toy U-Net learns to give back what it sees; each place of each batch has pictures of its own."""

    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0):
        torch.manual_seed(seed)
        self.trained = UNet(CONFIG).to(dtype)
        self.dtype = dtype

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        x, ctx = (normal(0, what, step, part, shape).to(self.dtype) for what, shape in SHAPES.items())
        y = self.trained(x, torch.full((len(part),), 100.0), ctx)
        return (y - x).square().mean(), {"first": float(part[0]), "mean": y.mean().item()}

    def sample(self, path: Path) -> None:
        y = self.trained(
            torch.ones(1, 4, 8, 8, dtype=self.dtype), torch.ones(1), torch.ones(1, 3, 16, dtype=self.dtype)
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{y.mean().item():.4f}")

    def held_out(self) -> dict[str, float]:
        return {"1": self.loss(1000, range(4))[0].item()}


SHAPES = {"x": (4, 8, 8), "ctx": (3, 16)}


class Lame(Denoise):
    """With a layer that nothing uses, and one that only the second half of a batch does."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__(dtype)
        self.trained.unused, self.trained.rare = nn.Linear(2, 2), nn.Linear(2, 2)

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        loss, figures = super().loss(step, part)
        seen = [i for i in part if i >= 4]
        rare = self.trained.rare(torch.ones(len(seen), 2)).sum() / len(part) if seen else 0.0
        return loss + rare, figures | ({"rare": 1.0} if seen else {})


class Frugal(Denoise):
    """Which computes its activations twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(checkpointed(self.trained))


@dataclass(frozen=True)
class Job:
    """One run in the folder `run`, or so many of its steps."""

    run: Path
    stage: loop.Stage = STAGE
    recipe: Callable[[], loop.Recipe] = Denoise
    steps: int = LAST
    seed_by_rank: bool = False  # each process begins with other weights
    stop: float = float("inf")

    def do(self) -> list[dict[str, object]]:
        """The records of the run; it is left without a word after `steps`."""
        recipe = Denoise(seed=processes.here().rank) if self.seed_by_rank else self.recipe()
        with closing(loop.train(recipe, self.stage, self.run, self.stop)) as records:
            return list(islice(records, self.steps))


@dataclass(frozen=True)
class Command:
    """What `daguerre train` does, as a job."""

    settings: Run

    @property
    def run(self) -> Path:
        return self.settings.run

    def do(self) -> list[dict[str, object]]:
        return list(runs.train(self.settings))


def double() -> Denoise:
    return Denoise(torch.float64)


def work(rank: int, port: int, jobs: list[Job] | list[Command], folder: Path) -> None:
    """What process `rank` of two does, begun as torchrun would; its records go to files beside the runs."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    with processes.joined("cpu"):
        for job in jobs:
            (folder / f"{job.run.name}-told-{rank}.json").write_text(json.dumps(job.do()))
