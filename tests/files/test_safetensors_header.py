"""The strict header against the format's own library: equal, or refused."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from daguerre.files.checkpoint import CheckpointError
from daguerre.files.safetensors_header import DTYPES, Entry, read_header

from .hostile_safetensors import honest, packed


def test_every_dtype_and_an_empty_tensor(tmp_path: Path) -> None:
    tensors = {name: torch.zeros(2, 3, dtype=dtype) for name, dtype in DTYPES.items()}
    tensors |= {"empty": torch.zeros(0, 4), "also empty": torch.zeros(3, 0), "number": torch.tensor(1.0)}
    save_file(tensors, tmp_path / "a.safetensors", {"title": "a \u00e4 \U0001f600, [b], {c}"})
    entries, metadata = read_header(tmp_path / "a.safetensors")
    assert metadata == {"title": "a \u00e4 \U0001f600, [b], {c}"}
    assert {key: (entry.dtype, entry.shape) for key, entry in entries.items()} == {
        key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()
    }


def test_places_are_those_of_the_values(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(3, dtype=torch.uint8), "b": torch.full((2,), 7, dtype=torch.int16)}, path)
    entries, _ = read_header(path)
    raw = path.read_bytes()
    assert raw[entries["a"].start : entries["a"].end] == b"\0\1\2"
    assert raw[entries["b"].start : entries["b"].end] == b"\7\0\7\0"
    assert entries["b"] == Entry(torch.int16, (2,), entries["b"].start, entries["b"].start + 4)


def test_a_cut_download_says_how_much_is_there(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(1000)}, path)
    full = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1234])
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*1,234 of {full:,} bytes.*again"):
        read_header(path)


def test_a_fuzzed_header_is_read_as_the_library_reads_it_or_not_at_all(tmp_path: Path) -> None:
    rng, path, agreed = Random(0), tmp_path / "a.safetensors", 0
    tokens = [
        b"0",
        b"1",
        b"-",
        b",",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b":",
        b" ",
        b"\\",
        b"e",
        b".",
        b"\0",
        b"\xff",
        b"\n",
    ]
    for _ in range(2_000):
        header, data = honest(rng)
        header["__metadata__"] = {"format": "pt"}
        raw = bytearray(json.dumps(header).encode())
        for _ in range(rng.randint(0, 2)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.randint(0, 2)] = rng.choice(tokens)
        path.write_bytes(packed(bytes(raw), data))
        try:
            entries, metadata = read_header(path)
        except CheckpointError:
            continue
        with safe_open(path, "pt") as file:  # raises if the library refuses what we took
            theirs = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            assert file.metadata() == metadata or not metadata
            assert {key: entry.shape for key, entry in entries.items()} == theirs
            assert all(file.get_tensor(key).dtype == entry.dtype for key, entry in entries.items())
        agreed += 1
    assert agreed > 300
