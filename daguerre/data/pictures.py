"""Captioned pictures from a Parquet file, decoded once and kept as one tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .decode import PictureError, decode
from .parquet import ParquetTable, encoded

COLUMNS = ("image", "split")


@dataclass(frozen=True)
class Pictures:
    """`pixels`: uint8 (N, 3, size, size) on a white ground; `rows`: the other columns, one dict per picture."""

    pixels: Tensor
    rows: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor) -> Tensor:
        """Float pictures in [-1, 1]."""
        return self.pixels[index].float().div_(127.5).sub_(1)


def load_parquet(path: Path, split: str, size: int = 128, columns: Sequence[str] = ()) -> Pictures:
    """The pictures of one split, resized to `size` x `size` pixels.

    The file has the columns `image` (encoded bytes, or a struct of `bytes` and `path`), `split`, those in `columns`
    and others at will. Raises ValueError that names the file and, for a damaged picture, its row, counted from 0.
    """
    table = ParquetTable(path)
    if missing := [name for name in (*COLUMNS, *columns) if name not in table.columns]:
        raise ValueError(f"{path} is no table of captioned pictures: it has no column {', '.join(missing)}")
    rows, pixels = [], []
    for number, row in enumerate(table.rows(list(table.columns))):
        if row["split"] == split:
            try:
                pixels.append(_square(encoded(row.pop("image"), path.parent), size))
            except PictureError as error:
                raise ValueError(f"{path}: the picture of row {number} cannot be used: {error}") from error
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no picture has split {split!r}")
    return Pictures(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), rows)


def _square(data: bytes, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = decode(data, "white")
    return np.asarray(image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS))
