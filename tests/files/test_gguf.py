"""GGUF: every kind of block against ggml's own loops, files as two programs write them, and broken ones."""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from daguerre.files.checkpoint import CheckpointError
from daguerre.files.gguf import open_gguf
from daguerre.files.gguf_blocks import KINDS
from daguerre.files.reader import open_checkpoint

Raw = tuple[tuple[int, ...], int, bytes]  # shape, ggml's kind, bytes


def gguf(tensors: Mapping[str, Raw], settings: Mapping[str, object] | None = None, version: int = 3) -> bytes:
    """As ggml writes it: numbers little-endian, sizes innermost first, tensors at multiples of 32 bytes."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def setting(value: object) -> bytes:
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        if isinstance(value, list):
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
        return struct.pack("<II", 4, value)

    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(settings or {}))
    head += b"".join(text(key) + setting(value) for key, value in (settings or {}).items())
    body = b""
    for key, (shape, kind, data) in tensors.items():
        head += text(key) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(body))
        body += data + bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + body


def blocks(kind: int, count: int = 3) -> bytes:
    """Random bytes, with float16 scales that are no NaN."""
    size = KINDS[kind].size
    raw = np.random.default_rng(kind).integers(0, 256, (count, size), np.uint8)
    scales = {2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0], 10: [80, 82], 11: [108], 12: [0, 2], 13: [0, 2], 14: [208]}
    for at in scales[kind]:
        raw[:, at : at + 2] = (
            np.random.default_rng(at).normal(0, 0.1, count).astype(np.float16).view(np.uint8).reshape(-1, 2)
        )
    return raw.tobytes()


def half(block: bytes, at: int) -> float:
    return struct.unpack_from("<e", block, at)[0]


def by_the_book(kind: str, b: bytes) -> list[float]:
    """One block, number by number, as ggml's dequantize_row functions go."""
    if kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        five, least = kind[1] == "5", kind[3] == "1"
        start = 2 + 2 * least
        high = struct.unpack_from("<I", b, start)[0] if five else 0
        q, y = b[start + 4 * five :], [0.0] * 32
        for j in range(16):
            for place, nibble in ((j, q[j] & 15), (j + 16, q[j] >> 4)):
                value = nibble | ((high >> place) & 1) << 4
                y[place] = half(b, 0) * (value - (0 if least else 16 if five else 8)) + (half(b, 2) if least else 0)
        return y
    if kind == "Q8_0":
        return [half(b, 0) * q for q in struct.unpack_from("<32b", b, 2)]
    if kind == "Q2_K":
        y = []
        for part in range(2):
            for j in range(4):
                for side in range(2):
                    scale = b[8 * part + 2 * j + side]
                    q = b[16 + 32 * part + 16 * side :]
                    y += [
                        half(b, 80) * (scale & 15) * (q[k] >> 2 * j & 3) - half(b, 82) * (scale >> 4) for k in range(16)
                    ]
        return y
    if kind == "Q3_K":
        packed, y = b[96:108], []
        for i in range(16):
            low = packed[i] & 15 if i < 8 else packed[i - 8] >> 4
            scale = (low | (packed[8 + i % 4] >> 2 * (i // 4) & 3) << 4) - 32
            part, j, side = i // 8, i % 8 // 2, i % 2
            for k in range(16 * side, 16 * side + 16):
                kept = b[k] >> (4 * part + j) & 1
                y.append(half(b, 108) * scale * ((b[32 + 32 * part + k] >> 2 * j & 3) - (0 if kept else 4)))
        return y
    if kind in ("Q4_K", "Q5_K"):
        s, y = b[4:16], []
        for i in range(8):
            scale, least = (s[i] & 63, s[i + 4] & 63) if i < 4 else (
                s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4)  # fmt: skip
            for k in range(32):
                byte = b[(48 if kind == "Q5_K" else 16) + 32 * (i // 2) + k]
                q = (byte >> 4 if i % 2 else byte & 15) | ((b[16 + k] >> i & 1) << 4 if kind == "Q5_K" else 0)
                y.append(half(b, 0) * scale * q - half(b, 2) * least)
        return y
    assert kind == "Q6_K"
    y = [0.0] * 256
    for part in range(2):
        low, high, scales = b[64 * part :], b[128 + 32 * part :], struct.unpack_from("<8b", b, 192 + 8 * part)
        for k in range(32):
            quarters = low[k] & 15, low[k + 32] & 15, low[k] >> 4, low[k + 32] >> 4
            for n, nibble in enumerate(quarters):
                q = (nibble | (high[k] >> 2 * n & 3) << 4) - 32
                y[128 * part + 32 * n + k] = half(b, 208) * scales[2 * n + k // 16] * q
    return y


QUANTIZED = [kind for kind, about in KINDS.items() if about.numbers > 1]


@pytest.mark.parametrize("kind", QUANTIZED, ids=[KINDS[kind].name for kind in QUANTIZED])
def test_blocks_by_the_book(kind: int, tmp_path: Path) -> None:
    about, raw = KINDS[kind], blocks(kind)
    (path := tmp_path / "x.gguf").write_bytes(gguf({"w": ((3, about.numbers), kind, raw)}))
    checkpoint = open_checkpoint(path)
    value = checkpoint.tensor("w")
    expected = [by_the_book(about.name, raw[i * about.size : (i + 1) * about.size]) for i in range(3)]
    assert checkpoint.tensors["w"].shape == (3, about.numbers) == value.shape
    assert value.dtype == torch.float32 == checkpoint.tensors["w"].dtype
    assert len({round(x, 6) for x in expected[0]}) > 3
    assert torch.allclose(value, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert f"1 tensors of {about.name}" in checkpoint.notes[0]


def test_plain_numbers_and_shapes_of_before(tmp_path: Path) -> None:
    """ComfyUI-GGUF makes rows of 256 of what does not divide, and notes the shape."""
    weights = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    tensors = {
        "f32": ((4, 3, 2), 0, weights.numpy().tobytes()),
        "f16": ((4, 3, 2), 1, weights.half().numpy().tobytes()),
        "bf16": ((4, 3, 2), 30, weights.bfloat16().view(torch.int16).numpy().tobytes()),
        "conv": ((3, 32), 8, blocks(8)),
    }
    settings = {"general.architecture": "sd1", "comfy.gguf.orig_shape.conv": [2, 3, 4, 4], "general.file_type": 7}
    (path := tmp_path / "x.gguf").write_bytes(gguf(tensors, settings))
    checkpoint = open_checkpoint(path)
    assert torch.equal(checkpoint.tensor("f32"), weights)
    assert torch.equal(checkpoint.tensor("f16"), weights.half())
    assert torch.equal(checkpoint.tensor("bf16"), weights.bfloat16())
    assert checkpoint.tensors["conv"].shape == (2, 3, 4, 4) == checkpoint.tensor("conv").shape
    value = checkpoint.tensor("f32")
    value.zero_()
    assert path.read_bytes() == gguf(tensors, settings), "a tensor may be written to, its file never is"


GOOD = {"w": ((3, 32), 8, blocks(8))}
BROKEN = {
    "cut short in a tensor": (gguf(GOOD)[:-40], "'w'.*cut short"),
    "cut short in its head": (gguf(GOOD)[:40], "cut short|buffer|text of"),
    "nothing but magic": (b"GGUF\3\0\0\0\0", "cut short|buffer"),
    "version 9": (gguf(GOOD, version=9), "version 9"),
    "an unknown kind": (gguf({"w": ((3, 32), 99, b"")}), "kind 99"),
    "a row that does not divide": (gguf({"w": ((3, 31), 8, blocks(8))}), "no tensor of Q8_0"),
    "a huge shape": (gguf({"w": ((1 << 40, 32), 8, b"")}), "no tensor|cut short"),
    "an overflowing shape": (gguf({"w": ((1 << 62, 1 << 62), 0, b"")}), "no tensor"),
    "a path for a name": (gguf({"../w": ((3, 32), 8, blocks(8))}), "no honest tensor"),
    "another shape of before": (gguf(GOOD, {"comfy.gguf.orig_shape.w": [5, 5]}), "orig_shape.w"),
    "an alignment of 0": (gguf(GOOD, {"general.alignment": 0}), "alignment"),
    "terabytes of settings": (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 60), "settings"),
    "a text without end": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "text of"),
    "a list without end": (
        b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 5, 1 << 60), "list of"
    ),
    "a list of lists": (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "of lists"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_named(fault: str, tmp_path: Path) -> None:
    data, words = BROKEN[fault]
    (path := tmp_path / "x.gguf").write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_gguf(path)
    assert str(path) in str(caught.value)


def test_no_tensor_reaches_beyond_its_file(tmp_path: Path) -> None:
    """Any byte of the head changed: an error, or tensors that lie inside."""
    data = gguf(GOOD, {"general.alignment": 32})
    head = len(data) - math.ceil(3 * 34 / 32) * 32
    path = tmp_path / "x.gguf"
    for place in range(4, head):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            checkpoint = open_gguf(path)
        except CheckpointError:
            continue
        for key in checkpoint.tensors:
            assert checkpoint.tensor(key).shape == checkpoint.tensors[key].shape
