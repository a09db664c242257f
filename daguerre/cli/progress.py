"""What a user sees while a picture is drawn."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from ..diffusion.denoiser import Step
    from ..families.model import Model

PREVIEW_SHARE = 0.2  # of the time may go into previews


class Progress:
    """A bar on a terminal, plain lines elsewhere; all on standard error, so that standard output is for files."""

    def __init__(self, steps: int, count: int, *, quiet: bool):
        self.steps, self.count, self.quiet = steps, count, quiet
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps,"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self.bar = Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self.task = self.bar.add_task("drawing", total=steps * count)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, picture: int, i: int) -> None:
        name = f"picture {picture + 1} of {self.count}" if self.count > 1 else "drawing"
        self.bar.update(self.task, completed=picture * self.steps + i + 1, description=name)

    def saved(self, path: Path, seconds: float) -> None:
        if not self.quiet:
            self.bar.console.print(f"drawn in {seconds:.1f} s", style="dim", highlight=False)
            print(path, file=sys.stdout, flush=True)


class Preview:
    """The picture as it stands, roughly, in one file that is replaced whole; skipped where it would cost too much."""

    def __init__(self, model: "Model", path: Path):
        self.model, self.path = model, path
        self.ready = 0.0  # when the next one may be made

    def update(self, step: "Step") -> None:
        begun = time.perf_counter()
        if begun < self.ready:
            return
        from ..files.durable import durable_write
        from ..generate.preview import preview

        factor, (height, width) = self.model.vae.config.factor, step.x0.shape[-2:]
        image = preview(self.model, step.x0).resize((width * factor, height * factor))
        durable_write(self.path, lambda target: image.save(target, "PNG"))
        end = time.perf_counter()
        self.ready = end + (end - begun) * (1 / PREVIEW_SHARE - 1)
