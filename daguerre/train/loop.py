"""One training loop. A recipe says what is trained and how a step's loss is made; the loop does everything else:
optimizer steps, averaged weights, the log, held-out losses, sample pictures, checkpoints and exact resume."""

import errno
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ..files.durable import durable_write
from ..request import RequestError
from ..runtime.precision import NumericError
from . import checkpoint
from .checkpoint import NonFiniteError
from .config import Loop, Optimizer
from .optimizers import build, evaluating, restore_state, set_rate, state_tensors
from .processes import clip_gradients, fill, gather, here, load, shard, wrap
from .rates import rate
from .recipe_file import plain

log = logging.getLogger(__name__)
T = TypeVar("T")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FULL = errno.ENOSPC, errno.EDQUOT, errno.EIO  # what a disk says that may recover
PAUSE = 5.0  # seconds between attempts to write
FREE = "save_every", "sample_every", "validate_every", "log_every", "keep"  # of a loop, they decide no weights
ENDLESS = "constant", "inverse_sqrt"  # schedules under which a longer run begins like a shorter one


class Recipe(Protocol):
    @property
    def trained(self) -> nn.Module:
        """Those of its parameters that want a gradient are optimized; its state is averaged and saved."""

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of the places `part` of a step's batch, and figures for the log.

        A pure function of the weights, the recipe's seed, the step and the places: micro-batches, and the shares of
        several processes, make up the same batch as one piece.
        """

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


@runtime_checkable
class Validated(Protocol):
    """What a recipe offers besides when it has pictures that it does not train on."""

    def held_out(self) -> dict[str, float]:
        """Losses of the averaged weights on held-out pictures, by noise level; the same draws every time."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How long and how fast to train; `identity` is what else decides the weights, as JSON values by name."""

    loop: Loop = Loop()
    optimizer: Optimizer = Optimizer()
    identity: Mapping[str, Any] = field(default_factory=dict)
    allow_changes: bool = False  # resume although `identity` has changed; the run is then marked as not exact
    patience: float = 3600.0  # seconds to wait while the disk is full


def deciding(c: Loop, o: Optimizer) -> dict[str, Any]:
    """The settings of a loop that decide the weights, by name: part of a stage's identity."""
    values = {k: v for k, v in plain(c).items() if k not in FREE}
    if o.schedule in ENDLESS and not o.decay:
        del values["steps"]
    return {f"{table}.{k}": v for table, given in (("loop", values), ("optimizer", plain(o))) for k, v in given.items()}


def train(
    recipe: Recipe, stage: Stage, run: Path, stop: float = math.inf, *, lock: bool = True
) -> Iterator[dict[str, Any]]:
    """Trains to the last step, or until the clock (`time.time`) passes `stop`, yielding a log record per step.

    Continues from the newest checkpoint in `run`, to the same bits as without a break. The averaged weights are in
    `averaged.safetensors` of each. Raises NonFiniteError before a NaN reaches the weights or a file, RequestError
    when another process trains in this folder or the run was begun with other settings. Closing the iterator saves.
    With `lock` off the caller holds the lock.
    """
    run.mkdir(parents=True, exist_ok=True)
    with locked(run) if lock and here().first else nullcontext():
        state = _State(recipe, stage)
        state.restore(run)
        yield from _steps(state, stage, run, stop)


def _steps(state: "_State", stage: Stage, run: Path, stop: float) -> Iterator[dict[str, Any]]:
    c = stage.loop
    journal = run / "log.jsonl"
    if here().first:
        _rewind(journal, state.step)
    try:
        with journal.open("a") if here().first else nullcontext() as lines:

            def note(record: Mapping[str, Any]) -> None:
                if lines:
                    lines.write(json.dumps(record) + "\n")
                    patiently(lines.flush, stage.patience)

            while state.step < c.steps and (stop == math.inf or here().agreed(time.time() < stop)):
                record = state.advance()
                if state.step % c.log_every == 0:
                    note(record)
                if state.step % c.validate_every == 0 and (losses := state.held_out()):
                    note({"step": state.step, "val": losses})
                    record = {**record, "val": losses}
                if state.step % c.sample_every == 0:  # before the save: what a kill then costs is made again
                    state.sample(run)
                if state.step % c.save_every == 0:
                    if lines:
                        os.fsync(lines.fileno())  # so that no power cut leaves a checkpoint that the log does not know
                    state.save(run)
                yield record
    except GeneratorExit:  # between two steps, so that what is saved is whole
        state.save(run)
        raise
    state.save(run)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keeps other processes from training in the same folder; the lock goes with the process, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(run / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RequestError(f"{run} is being trained by another process; wait for it or name another folder") from None
    try:
        checkpoint.tidy(run)
        yield
    finally:
        lock.release()


def patiently(write: Callable[[], T], patience: float) -> T:
    """Tries again while the disk is full or fails, for `patience` seconds: what a run knows is worth waiting for."""
    begun = time.monotonic()
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in FULL or time.monotonic() - begun >= patience:
                raise
            log.error("paused, nothing is lost: %s. Make room and the run goes on by itself", error)
            time.sleep(min(PAUSE, patience))


class _State:
    """All that a step changes and a checkpoint holds."""

    def __init__(self, recipe: Recipe, stage: Stage):
        self.recipe, self.stage, self.step = recipe, stage, 0
        self.second = recipe if isinstance(recipe, SecondPlayer) else None
        self.module = recipe.trained
        self.sharded = stage.loop.shard and here().world > 1
        if self.sharded:
            shard(self.module, stage.loop, stage.optimizer)
        self.loss = wrap(recipe)
        named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
        self.device = self.parameters[0].device
        self.optimizer = build(stage.optimizer, named, self.device)
        # Without decay the average is the weights themselves, and a second copy of them would be in vain.
        self.average = {k: v.clone() for k, v in self.module.state_dict().items()} if stage.loop.ema else {}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=stage.loop.precision == "float16")
        self.exact = True

    def advance(self) -> dict[str, Any]:
        """One step; returns its log record."""
        start, c = time.perf_counter(), self.stage.loop
        set_rate(self.optimizer, factor := rate(self.stage.optimizer, c.steps, self.step))
        loss, figures = self._backward()
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.parameters, c.clip or math.inf)
        overflow = self.scaler.is_enabled() and not torch.isfinite(norm) and self.scaler.get_scale() > 1
        if not math.isfinite(loss) or not (torch.isfinite(norm) or overflow):
            told = f"loss {loss}, gradient norm {norm.item()}"
            raise NonFiniteError(f"step {self.step}: {told}; the weights were not changed")
        self.scaler.step(self.optimizer)  # leaves a step out when half precision overflowed, and scales less
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.second:
            self.second.after(self.step)
        self.step += 1
        if c.ema:  # a short memory while everything still changes
            update_average(self.average, self.module, min(c.ema, self.step / (self.step + 10)))
        seconds, lr = time.perf_counter() - start, self.stage.optimizer.learning_rate * factor
        size = {} if overflow else {"norm": norm.item()}
        return {"step": self.step, "loss": loss, "lr": lr, **size, "seconds": seconds, **figures}

    def _backward(self) -> tuple[float, dict[str, float]]:
        """Adds up the gradients of a batch, micro-batch by micro-batch; returns its mean loss and figures."""
        c = self.stage.loop
        mine = here().share(range(c.batch))
        losses, figures = list[Tensor](), dict[str, float]()
        for part in pieces(mine, c.accumulate):
            with torch.autocast(self.device.type, DTYPES[c.precision], enabled=c.precision != "float32"):
                loss, told = self.loss(self.step, part, part.stop == mine.stop)
            share = len(part) / len(mine)
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach() * share)  # asked for below, so that a GPU is waited for once
            figures = {k: figures.get(k, 0.0) + v * share for k, v in told.items()}
        total = sum(torch.stack(losses).tolist())
        figures = here().averaged({"": total, **figures})
        return figures.pop(""), figures

    def save(self, run: Path) -> None:
        with evaluating(self.optimizer):
            average = self.average or {k: v.clone() for k, v in self.module.state_dict().items()}
        own = {"weights": gather(self.module.state_dict()), "averaged": gather(average)}
        parts = {**own, "optimizer": state_tensors(self.optimizer), **(self.second.extra() if self.second else {})}
        if self.scaler.is_enabled():
            scale = {k: torch.tensor(float(v)) for k, v in self.scaler.state_dict().items()}
            parts["scaler"] = scale
        if not here().first:
            return
        notes = {"identity": self.stage.identity, "exact": self.exact}
        patiently(lambda: checkpoint.save(run, self.step, parts, notes, keep=self.stage.loop.keep), self.stage.patience)

    def restore(self, run: Path) -> None:
        found = checkpoint.newest(run)
        step = found[0]["step"] if found else 0
        if here().agreed(step) != step:
            raise RequestError(f"{run} is not the same for all processes; name a folder that all machines share")
        if found is None:
            return
        notes, parts = found
        self._compare(run, notes)
        try:
            load(self.module, parts["weights"])
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"{run} holds another network: {reason}. Name another run folder") from error
        for name, value in self.average.items():
            fill(value, parts["averaged"][name])
        restore_state(self.optimizer, parts["optimizer"])
        if self.second:
            self.second.restore(parts)
        if "scaler" in parts:
            self.scaler.load_state_dict({k: v.item() for k, v in parts["scaler"].items()})
        self.step = step
        here().together()  # before the first process saves, and removes what others still read
        log.info("resuming %s at step %d", run, self.step)

    def _compare(self, run: Path, notes: Mapping[str, Any]) -> None:
        """Refuses to go on with other settings, data or machine than those that the run was begun with."""
        before, now = notes.get("identity", {}), json.loads(json.dumps(self.stage.identity))
        names = [k for k in {**now, **before} if before.get(k) != now.get(k)]
        changed = [f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in names]
        if changed and not self.stage.allow_changes:
            told = "; ".join(changed)
            raise RequestError(
                f"{run} was begun otherwise: {told}. Name another run folder, or allow changes: "
                "the run goes on and is marked as not exact"
            )
        self.exact = bool(notes.get("exact", True)) and not changed

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the module, for so long."""
        with evaluating(self.optimizer):
            if not self.stage.loop.ema:
                yield
                return
            held = {k: v.clone() for k, v in self.module.state_dict().items()}
            self.module.load_state_dict(self.average)
            try:
                yield
            finally:
                self.module.load_state_dict(held)

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        if not isinstance(self.recipe, Validated) or not (here().first or self.sharded):
            return {}
        with self.averaged():
            return self.recipe.held_out()

    @torch.no_grad()
    def sample(self, run: Path) -> None:
        """Sample pictures of the averaged weights; a run goes on without them."""
        if not (here().first or self.sharded):
            return
        try:
            with self.averaged(), suppress(FileExistsError), _kept(run / "samples") as folder:
                self.recipe.sample(folder / f"step-{self.step:08d}.png")
        except (NumericError, OSError) as error:
            log.warning("no sample pictures at step %d: %s", self.step, error)


@contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    """The folder, in the first process; for others, which draw along only because weights are sharded, no such one."""
    if here().first:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as aside:
            yield Path(aside)


def pieces(places: range, count: int) -> list[range]:
    """The places of a batch in `count` parts of nearly equal length; none is empty."""
    if not 1 <= count <= len(places):
        raise RequestError(f"loop.accumulate is {count}; a batch of {len(places)} allows 1 to {len(places)}")
    edges = [places.start + len(places) * i // count for i in range(count + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


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
