"""Captioned pictures from a Parquet file, decoded once and kept as one tensor."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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
    rows, pixels = [], []
    for number, row in enumerate(_rows(path, (*COLUMNS, *columns))):
        if row["split"] == split:
            image = row.pop("image")
            try:
                pixels.append(_decode(image["bytes"] if isinstance(image, dict) else image, size))
            except DAMAGE as error:
                raise ValueError(f"{path}: the picture of row {number} is damaged: {error}") from error
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no picture has split {split!r}")
    return Pictures(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), rows)


DAMAGE = OSError, ValueError, TypeError, KeyError, SyntaxError, Image.DecompressionBombError  # as Pillow tells it


def _decode(data: bytes, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"]) as picture:
        rgba = picture.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, "white")
    flat = Image.alpha_composite(ground, rgba).convert("RGB")
    return np.asarray(flat if flat.size == (size, size) else flat.resize((size, size), Image.Resampling.LANCZOS))


def _rows(path: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading Parquet needs pyarrow: pip install 'daguerre[train]'") from error
    try:
        file = parquet.ParquetFile(path)
        if missing := [name for name in needed if name not in file.schema_arrow.names]:
            raise ValueError(f"it has no column {', '.join(missing)}")
        for group in file.iter_batches():
            yield from group.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are these
        raise ValueError(f"{path} is not a Parquet file of captioned pictures: {error}") from error
