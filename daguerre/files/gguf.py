"""Reads GGUF files, as stable-diffusion.cpp and ComfyUI-GGUF write them; quantized tensors are made float32 on demand.

The layout of the file and of each block of numbers is ggml's. Constants, not the file, bound memory.
"""

import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import Checkpoint, CheckpointError, TensorInfo
from .gguf_blocks import KINDS
from .safetensors_header import DOWNLOAD_AGAIN, MAX_KEY, check_key, is_shape

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_TENSORS, MAX_SETTINGS, MAX_LIST = 20_000, 20_000, 1 << 20
MAX_TEXT = 1 << 16  # bytes of a setting
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9  # kinds of settings
ORIGINAL = "comfy.gguf.orig_shape."  # a tensor's own shape, where it was reshaped to be quantized


def open_gguf(path: Path) -> Checkpoint:
    """The tensors of a GGUF file; keys as in it. Raises CheckpointError for one that is damaged or unknown."""
    try:
        with path.open("rb") as file:  # a private mapping: a tensor may be written to, the file never is
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return _opened(path, mapped)
    except CheckpointError:
        raise
    except (ValueError, struct.error, UnicodeDecodeError) as fault:
        reason = str(fault)[:200] if isinstance(fault, ValueError) else "it is cut short"
        raise CheckpointError(path, f"no readable GGUF file: {reason}", remedy=DOWNLOAD_AGAIN) from None


def _opened(path: Path, mapped: mmap.mmap) -> Checkpoint:
    reader = _Reader(mapped)
    version, count, settings = reader.numbers("IQQ")
    if version not in VERSIONS:
        raise ValueError(f"version {version} is not known")
    if count > MAX_TENSORS or settings > MAX_SETTINGS:
        raise ValueError(f"it speaks of {count:,} tensors and {settings:,} settings; no model has so many")
    noted = dict(reader.setting() for _ in range(settings))
    found = [reader.tensor() for _ in range(count)]
    alignment = noted.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 16:
        raise ValueError("general.alignment should be a small number")
    base = -(-reader.place // alignment) * alignment
    tensors, places = dict[str, TensorInfo](), dict[str, tuple[int, int]]()
    for key, shape, kind, offset in found:
        check_key(path, key)
        if kind not in KINDS:
            raise CheckpointError(path, f"its numbers are of ggml's kind {kind}, which is not known", key=key)
        name, dtype, numbers, size, _ = KINDS[kind]
        count = math.prod(shape)
        if key in tensors or not is_shape(shape) or count % numbers:
            raise CheckpointError(path, f"it is there twice, or no tensor of {name} has the shape {shape}", key=key)
        if base + offset + count // numbers * size > len(mapped):
            raise CheckpointError(path, f"the file is cut short: it has {len(mapped):,} bytes", key=key)
        tensors[key] = TensorInfo(_original(noted, key, shape), dtype)
        places[key] = base + offset, kind

    def fetch(key: str) -> Tensor:
        (start, kind), info = places[key], tensors[key]
        _, dtype, numbers, size, floats = KINDS[kind]
        count = torch.Size(info.shape).numel()
        if not count:
            return torch.empty(info.shape, dtype=dtype)
        raw = torch.frombuffer(mapped, dtype=torch.uint8, count=count // numbers * size, offset=start)
        return floats(raw.reshape(-1, size)).reshape(info.shape)

    kinds = Counter(KINDS[kind][0] for _, kind in places.values())
    note = f"GGUF: {', '.join(f'{n} tensors of {name}' for name, n in kinds.most_common())}"
    return Checkpoint(path, tensors, fetch, (path,), notes=(note,))


def _original(noted: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    stated = noted.get(f"{ORIGINAL}{key}")
    if stated is None:
        return shape
    if not isinstance(stated, list) or not is_shape(stated) or math.prod(stated) != math.prod(shape):
        raise ValueError(f"{ORIGINAL}{key[:MAX_KEY]} does not have as many numbers as {list(shape)}")
    return tuple(stated)


class _Reader:
    """Goes through the header."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place = data, len(MAGIC)

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def text(self, most: int) -> str:
        (length,) = self.numbers("Q")
        if length > most or self.place + length > len(self.data):
            raise ValueError(f"a text of {length:,} bytes, where {most:,} are allowed")
        self.place += length
        return self.data[self.place - length : self.place].decode()

    def setting(self) -> tuple[str, Any]:
        name = self.text(MAX_KEY + len(ORIGINAL))
        (kind,) = self.numbers("I")
        return name, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text(MAX_TEXT)
        if kind != LIST:
            if kind not in NUMBERS:
                raise ValueError(f"a setting of the kind {kind}, which is not known")
            return self.numbers(NUMBERS[kind])[0]
        of, count = self.numbers("IQ")
        if count > MAX_LIST or of == LIST:
            raise ValueError(f"a list of {count:,} values, or of lists")
        if of == TEXT:
            return [self.text(MAX_TEXT) for _ in range(count)]
        if of not in NUMBERS:
            raise ValueError(f"a list of the kind {of}, which is not known")
        return list(self.numbers(f"{count}{NUMBERS[of]}"))

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        key = self.text(MAX_KEY)
        (dims,) = self.numbers("I")
        if dims > 8:
            raise ValueError(f"a tensor of {dims} dimensions")
        shape = self.numbers(f"{dims}Q")[::-1]  # ggml counts from the innermost
        kind, offset = self.numbers("IQ")
        return key, shape, kind, offset
