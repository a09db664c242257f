"""A checkpoint as all readers show it: names, shapes, dtypes, and tensors on demand."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class CheckpointError(ValueError):
    """A file that cannot be used; the message names file, key, reason and remedy."""

    def __init__(self, path: Path | str, reason: str, *, key: str = "", remedy: str = ""):
        self.path, self.key, self.reason, self.remedy = Path(path), key, reason, remedy
        where = f"{path}: {key!r}" if key else f"{path}"
        super().__init__(f"{where}: {reason}" + (f". {remedy}" if remedy else ""))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Checkpoint:
    """One file, or one diffusers folder, whose keys then begin with the part: `unet/conv_in.weight`."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    fetch: Callable[[str], Tensor]  # a view into the memory-mapped file, in the file's dtype; never a copy
    files: tuple[Path, ...]  # whose bytes are the weights, in the order of their names
    metadata: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # a folder's JSON files, by part
    notes: tuple[str, ...] = ()  # what a reader passed over, for the owner to know

    def tensor(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise CheckpointError(self.path, "no such tensor", key=key)
        return self.fetch(key)

    @property
    def name(self) -> str:
        """The file's or folder's, without what tells its kind."""
        return self.path.stem if self.path.is_file() else self.path.name

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors.values())

    @cached_property
    def sha256(self) -> str:
        """Of the file; of a folder, that of what `sha256sum` prints for its weight files in order of name."""
        if self.path.is_file():
            return _sha256(self.path)
        lines = (f"{_sha256(file)}  {file.relative_to(self.path).as_posix()}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
