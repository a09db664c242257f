"""Writes safetensors files one tensor after another, so that a file of any size needs the memory of its largest."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .durable import durable_write
from .safetensors_header import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Deferred(NamedTuple):
    """A tensor that is made when it is needed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def deferred(value: Tensor | Deferred) -> Deferred:
    """A tensor that is there already, as one that is to be made."""
    return value if isinstance(value, Deferred) else Deferred(tuple(value.shape), value.dtype, lambda: value)


def save_deferred(path: Path, tensors: Mapping[str, Deferred], metadata: Mapping[str, str]) -> None:
    """A safetensors file, whole or not at all. Whatever making a tensor raises ends it, and `path` is as it was."""
    durable_write(path, lambda target: write_deferred(target, tensors, metadata))


def write_deferred(path: Path, tensors: Mapping[str, Deferred], metadata: Mapping[str, str]) -> None:
    """Likewise, in place: for a caller that has a temporary path."""
    # Large numbers first keeps all aligned; the format's own library orders them so, too.
    order = sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for key in order:
        shape, dtype, _ = tensors[key]
        end = place + tensors[key].nbytes
        header[key] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            value = tensors[key].make().detach().cpu().contiguous()
            if tuple(value.shape) != tensors[key].shape or value.dtype != tensors[key].dtype:
                raise ValueError(f"{key!r} was to be {tensors[key][:2]} and became {tuple(value.shape)}, {value.dtype}")
            file.write(value.reshape(-1).view(torch.uint8).numpy().data)
