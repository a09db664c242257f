"""One training loop. A recipe says what is trained and how a step's loss is made; the loop does everything else:
optimizer steps, averaged weights, logging, sample pictures, checkpoints and exact resume."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..files.durable import durable_write
from ..runtime.precision import NumericError
from . import checkpoint
from .checkpoint import NonFiniteError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100  # steps of linearly rising learning rate
    decay: int = 0  # last steps of linearly falling learning rate
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # 0: the average is the weights themselves
    save_every: int = 500
    sample_every: int = 500
    log_every: int = 20


class Recipe(Protocol):
    @property
    def trained(self) -> nn.Module:
        """Its parameters are optimized, averaged and saved."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, a pure function of the weights, the recipe's seed and `step`; figures for the log."""

    def sample(self, path: Path) -> None:
        """Draws what `trained`, which holds the averaged weights for so long, can do into the PNG `path`."""


@runtime_checkable
class SecondPlayer(Protocol):
    """What a recipe offers besides when something else learns along, such as a discriminator."""

    def after(self, step: int) -> None:
        """The second player's move, when the weights have made theirs."""

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        """The second player's state: tensors by file stem and name."""

    def restore(self, parts: checkpoint.Parts) -> None:
        """Puts back what `extra` told."""


def learning_rate(s: Settings, step: int) -> float:
    """Up from 0 in the first `warmup` steps, down to 0 in the last `decay` ones."""
    falling = (s.steps - step) / s.decay if s.decay else 1.0
    return s.learning_rate * min(1.0, (step + 1) / max(1, s.warmup), max(0.0, falling))


def train(recipe: Recipe, s: Settings, run: Path, stop: float = math.inf) -> Iterator[dict[str, Any]]:
    """Trains to `s.steps`, or until the clock (`time.time`) passes `stop`, yielding a log record per step.

    Continues from the newest checkpoint in `run`, to the same bits as without a break. The averaged weights are in
    `averaged.safetensors` of each. Raises NonFiniteError before a NaN reaches the weights or a file.
    """
    run.mkdir(parents=True, exist_ok=True)
    state = _State(recipe, s)
    state.restore(run)
    journal = run / "log.jsonl"
    _rewind(journal, state.step)
    with journal.open("a") as lines:
        while state.step < s.steps and time.time() < stop:
            record = state.advance()
            if state.step % s.log_every == 0:
                lines.write(json.dumps(record) + "\n")
                lines.flush()
            if state.step % s.save_every == 0:
                state.save(run)
            if state.step % s.sample_every == 0:
                state.sample(run / f"sample-{state.step:08d}.png")
            yield record
    state.save(run)


class _State:
    """All that a step changes and a checkpoint holds."""

    def __init__(self, recipe: Recipe, s: Settings):
        self.recipe, self.settings, self.step = recipe, s, 0
        self.second = recipe if isinstance(recipe, SecondPlayer) else None
        self.module = recipe.trained
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        betas = 0.9, 0.99
        self.optimizer = torch.optim.AdamW(
            self.parameters, s.learning_rate, betas, weight_decay=s.weight_decay, fused=True
        )
        self.average = {k: v.clone() for k, v in self.module.state_dict().items()}

    def advance(self) -> dict[str, Any]:
        """One step; returns its log record."""
        start, s = time.perf_counter(), self.settings
        self.optimizer.param_groups[0]["lr"] = learning_rate(s, self.step)
        loss, figures = self.recipe.loss(self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, s.clip)
        if not torch.isfinite(loss + norm):
            told = f"loss {loss.item()}, gradient norm {norm.item()}"
            raise NonFiniteError(f"step {self.step}: {told}; the weights were not changed")
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.second:
            self.second.after(self.step)
        self.step += 1
        # A short memory while everything still changes.
        update_average(self.average, self.module, min(s.ema, self.step / (self.step + 10)))
        seconds = time.perf_counter() - start
        return {"step": self.step, "loss": loss.item(), "norm": norm.item(), "seconds": seconds, **figures}

    def save(self, run: Path) -> None:
        own = {"weights": self.module.state_dict(), "averaged": self.average}
        extra = self.second.extra() if self.second else {}
        parts = {**own, "optimizer": checkpoint.optimizer_tensors(self.optimizer), **extra}
        checkpoint.save(run, self.step, parts, {"settings": asdict(self.settings)})

    def restore(self, run: Path) -> None:
        found = checkpoint.newest(run)
        if found is None:
            return
        notes, parts = found
        try:
            self.module.load_state_dict(parts["weights"])
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"{run} holds another network: {reason}. Name another run folder") from error
        for name, value in self.average.items():
            value.copy_(parts["averaged"][name])
        checkpoint.restore_optimizer(self.optimizer, parts["optimizer"])
        if self.second:
            self.second.restore(parts)
        self.step = int(notes["step"])
        log.info("resuming %s at step %d", run, self.step)

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Sample pictures of the averaged weights."""
        held = {k: v.clone() for k, v in self.module.state_dict().items()}
        self.module.load_state_dict(self.average)
        try:
            self.recipe.sample(path)
        except NumericError as error:
            log.warning("no sample pictures at step %d: %s", self.step, error)
        finally:
            self.module.load_state_dict(held)


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights, in place."""
    new = module.state_dict()
    torch._foreach_lerp_([average[name] for name in new], list(new.values()), 1 - decay)


def _rewind(journal: Path, step: int) -> None:
    """Drops the records of steps that were made after the checkpoint and will be made again."""
    if not journal.exists():
        return
    lines = journal.read_text(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        durable_write(journal, lambda target: _write(target, kept))


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines))


def _step_of(line: str) -> float:
    """The step that a line of the log tells of; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
