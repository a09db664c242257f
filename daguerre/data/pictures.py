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


def _decode(data: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"]) as picture:
        rgba = picture.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, "white")
    flat = Image.alpha_composite(ground, rgba).convert("RGB")
    return np.asarray(flat if flat.size == (size, size) else flat.resize((size, size), Image.Resampling.LANCZOS))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading Parquet needs pyarrow: pip install 'daguerre[train]'") from error
    for group in parquet.ParquetFile(path).iter_batches():
        yield from group.to_pylist()


def load_parquet(path: Path, split: str, size: int = 128) -> Pictures:
    """The pictures of one split; columns `image` (bytes), `split` and whatever else the file has."""
    rows, pixels = [], []
    for row in _rows(path):
        if row["split"] == split:
            pixels.append(_decode(row.pop("image")["bytes"], size))
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no picture has split {split!r}")
    return Pictures(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), rows)
