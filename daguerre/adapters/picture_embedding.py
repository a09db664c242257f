"""Textual inversions that A1111 hides in pictures: as a text chunk of a PNG, or in the low bits of its margins."""

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..files.checkpoint import Checkpoint, CheckpointError, TensorInfo

KEYWORD = "sd-ti-embedding"
SIGNATURES = b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff"  # PNG, WebP, JPEG
MOST = 16 << 20  # bytes of JSON: 75 vectors of SDXL need 4 MB
WORD = "daguerre"  # in our checkpoints' metadata, the word as JSON
BROKEN = OSError, SyntaxError, ValueError, Image.DecompressionBombError, RecursionError, zlib.error


def is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(SIGNATURES)


def open_picture(path: Path) -> Checkpoint:
    """The vectors in a picture, named as in A1111's .pt files. Raises CheckpointError where none can be read."""
    remedy = "Get the file as it was published: a picture that was saved anew has lost its low bits and texts"
    try:
        with Image.open(path) as picture:
            picture.load()
            text = getattr(picture, "text", {}).get(KEYWORD)
            pixels = None if text is not None else np.asarray(picture.convert("RGB"))
        data = _parsed(base64.b64decode(text)) if text is not None else _parsed(_hidden(pixels))
        tensors = _tensors(data)
    except BROKEN as fault:
        reason = f"no textual inversion can be read from this picture: {str(fault)[:200]}"
        raise CheckpointError(path, reason, remedy=remedy) from None
    name = data.get("name")
    noted = {WORD: json.dumps({"word": name})} if isinstance(name, str) and name.strip() else {}
    infos = {key: TensorInfo(tuple(value.shape), value.dtype) for key, value in tensors.items()}
    return Checkpoint(path, infos, tensors.__getitem__, (path,), noted)


def _tensors(data: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    params = data.get("string_to_param")
    if not isinstance(params, dict) or not params:
        raise ValueError("its data has no string_to_param")
    found = {}
    for key, value in params.items():
        rows = value.get("TORCHTENSOR") if isinstance(value, dict) else None
        if not isinstance(rows, list):
            raise ValueError("its vectors are not lists of numbers")
        try:
            found[f"string_to_param.{key}"] = torch.tensor(rows, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise ValueError("its vectors are not lists of numbers, or not equally long") from None
    return found


def _parsed(text: bytes) -> dict[str, Any]:
    if len(text) > MOST:
        raise ValueError(f"more than {MOST:,} bytes of JSON")
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("its data is no JSON object")
    return data


def _hidden(pixels: Any) -> bytes:
    """What the low four bits left and right of the picture hold, deciphered and decompressed.

    Black columns part the three. Left are the low halves of the bytes, right the high ones.
    """
    bright = (pixels > 0).all(axis=2)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not len(rows):
        raise ValueError("it is black")
    low = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = np.flatnonzero(low.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        raise ValueError(f"it has no text {KEYWORD!r} and no margins with data")
    left, right = (_deciphered(side) for side in (low[:, : black[0]], low[:, black[-1] + 1 :]))
    if left.shape != right.shape:
        raise ValueError("its margins are of different sizes")
    unpacker = zlib.decompressobj()
    data = unpacker.decompress((right << 4 | left).tobytes(), MOST + 1)
    if not unpacker.eof:
        raise ValueError("its data is cut short or too long")
    return data


def _deciphered(block: Any) -> Any:
    """XOR with the low bits of a linear congruential generator: s = 1664525 s + 1013904223 mod 2^32, mod 255."""
    powers = np.full(block.size, 1664525, np.uint32)
    powers[:1] = 1
    with np.errstate(over="ignore"):
        states = np.cumsum(np.cumprod(powers, dtype=np.uint32), dtype=np.uint32) * np.uint32(1013904223)
    return block ^ (states % np.uint32(255)).astype(np.uint8).reshape(block.shape) & 0x0F
