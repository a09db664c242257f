"""A run's figures and pictures for TensorBoard, where that is installed."""

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)
FOLDER = "tensorboard"


class Events:
    """Writes into RUN/tensorboard; without tensorboard it says so once and does nothing.

    `step` is where the run goes on: what an earlier process told of later steps is not shown.
    """

    def __init__(self, run: Path, step: int = 0):
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            log.info("no events for TensorBoard, which is not installed: pip install 'daguerre[train]'")
            return
        self._writer = SummaryWriter(str(run / FOLDER), purge_step=step + 1 if step else 0)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer:
            self._writer.close()

    def add(self, step: int, record: Mapping[str, Any]) -> None:
        """A line of the log: numbers become curves by name, those of a table in it by "table/name"."""
        if self._writer:
            for name, value in _numbers(record):
                self._writer.add_scalar(name, value, step)

    def add_picture(self, step: int, name: str, path: Path) -> None:
        """A picture file, such as a strip of samples."""
        if self._writer:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, pixels, step, dataformats="HWC")


def _numbers(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value) and name != "step":
            yield above + name, float(value)
