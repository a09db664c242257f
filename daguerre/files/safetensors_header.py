"""The header of a safetensors file, read more strictly than the format's own library does.

That library takes doubled keys, unknown fields, 50 MB of metadata and keys such as `a.__class__`. Here
every byte of the file is accounted for before anything is mapped, and constants, not the file, bound memory.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .checkpoint import CheckpointError

MAX_HEADER = 8 << 20  # bytes; the 2,515 tensors of SDXL need 0.3 MB
MAX_MARKS = 400_000  # of `{`, `[` and `,` in a header, about ten for each tensor: so many objects json can make
MAX_KEY = 512  # characters
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 40  # of a tensor, and its bytes
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
DOWNLOAD_AGAIN = "Download or copy the file again"
_BAD_PART = re.compile(r"(?:^|[./\\])(?:__|[./\\]|$)")  # a part of a key that is empty or begins with `__`


class Entry(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    end: int


def check_key(path: Path, key: str) -> None:
    """Refuses a tensor name that could pass for a path, a walk along attributes or invisible text."""
    if not key.isprintable() or len(key) > MAX_KEY or _BAD_PART.search(key):
        reason = "no honest tensor has such a name"
        raise CheckpointError(path, reason, key=key[:MAX_KEY], remedy="Do not trust this file")


def are_counts(numbers: Iterable[object]) -> bool:
    """Whether all are whole numbers that an honest file could hold."""
    return all(type(n) is int and 0 <= n < MAX_ELEMENTS for n in numbers)


def is_shape(sizes: Sequence[Any]) -> bool:
    """Whether these can be a tensor's sizes: few counts, and their product far from any overflow."""
    few = len(sizes) <= MAX_DIMENSIONS and are_counts(sizes)
    return few and math.prod(max(n, 1) for n in sizes) < MAX_ELEMENTS


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors' dtypes, shapes and places, and the metadata; CheckpointError if any byte is unclear."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        base = 8 + int.from_bytes(file.read(8), "little")
        if base > 8 + MAX_HEADER:
            reason = f"no safetensors file: a header of {base - 8:,} bytes, where {MAX_HEADER:,} are allowed"
            raise CheckpointError(path, reason, remedy=DOWNLOAD_AGAIN)
        if base > size:
            raise _cut_short(path, size, base)
        raw = file.read(base - 8)
    try:
        described, metadata = _parse(raw)
    except (ValueError, RecursionError) as fault:
        reason = f"the header is malformed: {str(fault)[:200]}"
        raise CheckpointError(path, reason, remedy=DOWNLOAD_AGAIN) from None
    tensors = {}
    for key, fields in described.items():
        check_key(path, key)
        try:
            tensors[key] = _entry(fields, base)
        except ValueError as fault:
            raise CheckpointError(path, str(fault), key=key, remedy=DOWNLOAD_AGAIN) from None
    _check_places(path, tensors, base, size)
    return tensors, metadata


def _parse(raw: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    if not raw.startswith(b"{"):
        raise ValueError("it does not begin with '{'")
    if sum(raw.count(mark) for mark in (b"{", b"[", b",")) > MAX_MARKS:
        raise ValueError("it describes more tensors than any model has")
    described = json.loads(raw.decode(), object_pairs_hook=_unique)
    metadata = described.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not made of texts")
    json.dumps(metadata, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
    if not described:
        raise ValueError("it describes no tensor")
    return described, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError(f"{Counter(key for key, _ in pairs).most_common(1)[0][0]!r} is there twice")
    return fields


def _entry(fields: object, base: int) -> Entry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("it should have the fields dtype, shape and data_offsets, and no others")
    match fields["dtype"], fields["shape"], fields["data_offsets"]:
        case str(name), list(shape), [start, end] if is_shape(shape) and are_counts([start, end]):
            dtype = DTYPES.get(name)
        case _:
            raise ValueError("no tensor has such a dtype, shape or place")
    if dtype is None:
        raise ValueError(f"its dtype {name[:20]!r} is unknown")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} of {name} does not fill {end - start:,} bytes")
    return Entry(dtype, tuple(shape), base + start, base + end)


def _check_places(path: Path, tensors: dict[str, Entry], base: int, size: int) -> None:
    """The tensors must follow each other from the header to the end of the file, without hole or overlap."""
    place = base
    for key, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.start != place:
            reason = "overlaps another tensor" if entry.start < place else "a hole lies before it"
            raise CheckpointError(path, reason, key=key, remedy=DOWNLOAD_AGAIN)
        place = entry.end
    if place > size:
        raise _cut_short(path, size, place)
    if place < size:
        reason = f"{size - place:,} bytes follow the last tensor"
        raise CheckpointError(path, reason, remedy=DOWNLOAD_AGAIN)


def _cut_short(path: Path, size: int, needed: int) -> CheckpointError:
    reason = f"the file is cut short: {size:,} of {needed:,} bytes are there"
    return CheckpointError(path, reason, remedy=DOWNLOAD_AGAIN)
