"""What a user sees while something is trained: what is being done, speed, time left, loss."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

MEMORY = 0.98  # of the running means of loss and speed
LINES = 5.0  # seconds between lines about preparation, off a terminal


class TrainingProgress:
    """A bar on a terminal, plain lines elsewhere; all on standard error."""

    def __init__(self, steps: int, every: int, *, quiet: bool):
        self.steps, self.every, self.quiet = steps, every, quiet
        console = Console(stderr=True)
        self.live = console.is_terminal and not quiet
        figures = TextColumn("{task.fields[figures]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), figures
        self.bar = Bar(*columns, console=console, transient=True, disable=not self.live)
        self.task = self.bar.add_task("preparing", total=None, figures="")
        self.loss = self.seconds = 0.0
        self.count = 0
        self.begun = self.told = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def tell(self, record: Mapping[str, Any]) -> None:
        """A record of a run, whatever it is about."""
        if "doing" in record:
            self._prepare(record["doing"], record["done"], record["of"])
        elif "loss" in record:
            self._step(record)

    def _prepare(self, doing: str, done: int, of: int) -> None:
        self.bar.update(self.task, description=doing, completed=done, total=of or None)
        if not self.live and time.monotonic() - self.told > LINES:
            self._line(f"{doing}: {done} of {of}")

    def _step(self, record: Mapping[str, Any]) -> None:
        self.count += 1
        share = max(1 - MEMORY, 1 / self.count)
        self.loss += share * (record["loss"] - self.loss)
        self.seconds += share * (record["seconds"] - self.seconds)
        step, steps, name = record["step"], record.get("steps", self.steps), str(record.get("stage", "training"))
        figures = f"loss {self.loss:.4f}  {1 / max(self.seconds, 1e-9):.2f} steps/s"
        self.bar.update(self.task, description=name, completed=step, total=steps, figures=figures)
        if not self.live and step % max(self.every, 20) == 0:
            left = time.strftime("%H:%M:%S", time.gmtime(max(0, steps - step) * self.seconds))
            rest = {
                k: v for k, v in record.items() if isinstance(v, float) and k not in ("loss", "seconds", "lr", "norm")
            }
            told = "".join(f", {k} {v:.4g}" for k, v in rest.items())
            self._line(f"{name} step {step} of {steps}: {figures.replace('  ', ', ')}, {left} left{told}")

    def _line(self, text: str) -> None:
        self.told = time.monotonic()
        if not self.quiet:
            clock = time.strftime("%H:%M:%S", time.gmtime(self.told - self.begun))
            print(f"{clock} {text}", file=sys.stderr, flush=True)
