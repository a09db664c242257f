"""One training loop. A recipe says what is trained and how a step's loss is made; the loop does everything else:
optimizer steps, averaged weights, logging, sample pictures, checkpoints and exact resume."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int
    batch: int
    learning_rate: float
    seed: int = 0
    warmup: int = 100  # steps of linearly rising learning rate
    decay: int = 0  # last steps of linearly falling learning rate
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # 0 keeps no average
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 20


class Recipe(Protocol):
    trained: nn.Module  # its parameters are optimized, averaged and saved

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, a pure function of the recipe's seed and `step`, and figures for the log."""

    def after(self, step: int) -> None:
        """Called when the weights have moved: a second player's step, for example."""

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        """Further state to save, such as a discriminator and its optimizer."""

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None: ...

    def sample(self, averaged: nn.Module, path: Path) -> None:
        """Draws what the model can do at this moment into the PNG `path`."""


class NotFinite(RuntimeError):
    """The loss or its gradient is NaN or infinite; the weights have not been touched."""


def learning_rate(s: Settings, step: int) -> float:
    falling = (s.steps - step) / s.decay if s.decay else 1.0
    return s.learning_rate * min(1.0, (step + 1) / max(1, s.warmup), max(0.0, falling))


def train(recipe: Recipe, s: Settings, run: Path, stop: float = math.inf) -> Iterator[dict[str, Any]]:
    """Trains to `s.steps`, or until the clock (`time.time`) passes `stop`, yielding a log record per step.

    Continues from the newest checkpoint in `run`. The averaged weights are in `averaged.safetensors` of it.
    """
    run.mkdir(parents=True, exist_ok=True)
    module = recipe.trained
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, s.learning_rate, (0.9, 0.99), weight_decay=s.weight_decay, fused=True
    )
    average = {k: v.clone() for k, v in module.state_dict().items()}
    step = 0
    if found := checkpoint.newest(run):
        notes, parts = found
        step = int(notes["step"])
        module.load_state_dict(parts["weights"])
        average = parts["averaged"]
        checkpoint.restore_optimizer(optimizer, parts["optimizer"])
        recipe.restore(parts)
        log.info("resuming %s at step %d", run, step)

    def save() -> None:
        own = {"weights": module.state_dict(), "averaged": average}
        parts = {**own, "optimizer": checkpoint.optimizer_tensors(optimizer), **recipe.extra()}
        checkpoint.save(run, step, parts, {"settings": asdict(s)})

    with (run / "log.jsonl").open("a") as journal:
        while step < s.steps and time.time() < stop:
            start = time.perf_counter()
            optimizer.param_groups[0]["lr"] = learning_rate(s, step)
            loss, figures = recipe.loss(step)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, s.clip)
            if not torch.isfinite(loss + norm):
                raise NotFinite(f"step {step}: loss {loss.item()}, gradient norm {norm.item()}; nothing was changed")
            optimizer.step()
            optimizer.zero_grad()
            recipe.after(step)
            step += 1
            decay = min(s.ema, step / (step + 10))  # a short memory while everything still changes
            _average(average, module, decay)
            seconds = time.perf_counter() - start
            record = {"step": step, "loss": loss.item(), "norm": norm.item(), "seconds": seconds, **figures}
            if step % s.log_every == 0:
                journal.write(json.dumps(record) + "\n")
                journal.flush()
            if step % s.save_every == 0:
                save()
            if step % s.sample_every == 0:
                _sample(recipe, average, run / f"sample-{step:08d}.png")
            yield record
    save()


@torch.no_grad()
def _average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    new = module.state_dict()
    floats = [k for k, v in new.items() if v.is_floating_point()]
    torch._foreach_lerp_([average[k] for k in floats], [new[k] for k in floats], 1 - decay)


@torch.no_grad()
def _sample(recipe: Recipe, average: Mapping[str, Tensor], path: Path) -> None:
    held = {k: v.clone() for k, v in recipe.trained.state_dict().items()}
    recipe.trained.load_state_dict(dict(average))
    try:
        recipe.sample(recipe.trained, path)
    finally:
        recipe.trained.load_state_dict(held)
