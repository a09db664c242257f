"""ggml's blocks of quantized numbers, as float32.

Each function takes blocks (n, bytes) of uint8 and gives (n, numbers). A block holds a scale d (float16), perhaps a
minimum m, and small integers q: x = d * q + m. The K kinds have blocks of 256 numbers whose parts have scales of their
own, quantized too.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Kind(NamedTuple):
    name: str
    dtype: torch.dtype  # of what `floats` gives
    numbers: int  # in a block
    size: int  # bytes of a block
    floats: Callable[[Tensor], Tensor]


def _plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda raw: raw.contiguous().view(dtype)


def _half(raw: Tensor, at: int) -> Tensor:
    """The float16 at this byte of each block: (n, 1)."""
    return raw[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(raw: Tensor) -> Tensor:
    """Low halves of all bytes, then high ones: (n, b) -> (n, 2b)."""
    return torch.cat([raw & 15, raw >> 4], dim=1)


def _bits(raw: Tensor) -> Tensor:
    """32 bits of four bytes, lowest first, each 0 or 1: (n, 4) -> (n, 32)."""
    return ((raw[:, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten(1)


def _q4_0(raw: Tensor) -> Tensor:
    return _half(raw, 0) * (_nibbles(raw[:, 2:]).float() - 8)


def _q4_1(raw: Tensor) -> Tensor:
    return _half(raw, 0) * _nibbles(raw[:, 4:]).float() + _half(raw, 2)


def _q5_0(raw: Tensor) -> Tensor:
    return _half(raw, 0) * ((_nibbles(raw[:, 6:]) | _bits(raw[:, 2:6]) << 4).float() - 16)


def _q5_1(raw: Tensor) -> Tensor:
    return _half(raw, 0) * (_nibbles(raw[:, 8:]) | _bits(raw[:, 4:8]) << 4).float() + _half(raw, 2)


def _q8_0(raw: Tensor) -> Tensor:
    return _half(raw, 0) * raw[:, 2:].contiguous().view(torch.int8).float()


def _pairs(raw: Tensor) -> Tensor:
    """Each half of the bytes four times, two bits higher each time: (n, 64) -> (n, 2, 4, 32), 0 to 3."""
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]
    return (raw.reshape(len(raw), 2, 1, 32) >> shifts) & 3


def _q2_k(raw: Tensor) -> Tensor:
    scales = raw[:, :16]
    d, m = _half(raw, 80) * (scales & 15).float(), _half(raw, 82) * (scales >> 4).float()
    q = _pairs(raw[:, 16:80]).reshape(-1, 16, 16).float()
    return (d[..., None] * q - m[..., None]).flatten(1)


def _q3_k(raw: Tensor) -> Tensor:
    packed = raw[:, 96:108]
    high = (packed[:, None, 8:] >> torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]) & 3  # (n, 4, 4)
    scales = (_nibbles(packed[:, :8]) | high.flatten(1) << 4).float() - 32
    above = (raw[:, None, :32] >> torch.arange(8, dtype=torch.uint8)[:, None]) & 1  # (n, 8, 32): set, and 4 stays
    q = _pairs(raw[:, 32:96]).reshape(-1, 8, 32).float() - 4 * (1 - above.float())
    return ((_half(raw, 108) * scales)[..., None] * q.reshape(-1, 16, 16)).flatten(1)


def _scales_and_minima(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Eight of six bits each, in twelve bytes: (n, 8, 1) each, times the block's own."""
    first, second, rest = raw[:, 4:8], raw[:, 8:12], raw[:, 12:16]
    scales = torch.cat([first & 63, (rest & 15) | (first >> 6) << 4], dim=1)
    minima = torch.cat([second & 63, (rest >> 4) | (second >> 6) << 4], dim=1)
    return (_half(raw, 0) * scales.float())[..., None], (_half(raw, 2) * minima.float())[..., None]


def _by_32(raw: Tensor) -> Tensor:
    """Low halves of 32 bytes, then their high halves, and so on: (n, 128) -> (n, 8, 32)."""
    groups = raw.reshape(len(raw), 4, 1, 32)
    return torch.cat([groups & 15, groups >> 4], dim=2).reshape(-1, 8, 32)


def _q4_k(raw: Tensor) -> Tensor:
    d, m = _scales_and_minima(raw)
    return (d * _by_32(raw[:, 16:]).float() - m).flatten(1)


def _q5_k(raw: Tensor) -> Tensor:
    d, m = _scales_and_minima(raw)
    high = (raw[:, None, 16:48] >> torch.arange(8, dtype=torch.uint8)[:, None]) & 1
    return (d * (_by_32(raw[:, 48:]) | high << 4).float() - m).flatten(1)


def _q6_k(raw: Tensor) -> Tensor:
    low = raw[:, :128].reshape(-1, 2, 1, 2, 32)
    low = torch.cat([low & 15, low >> 4], dim=2).reshape(-1, 2, 4, 32)
    q = (low | _pairs(raw[:, 128:192]) << 4).float() - 32
    scales = raw[:, 192:208].contiguous().view(torch.int8).float()
    return ((_half(raw, 208) * scales)[..., None] * q.reshape(-1, 16, 16)).flatten(1)


KINDS = {
    0: Kind("F32", torch.float32, 1, 4, _plain(torch.float32)),
    1: Kind("F16", torch.float16, 1, 2, _plain(torch.float16)),
    2: Kind("Q4_0", torch.float32, 32, 18, _q4_0),
    3: Kind("Q4_1", torch.float32, 32, 20, _q4_1),
    6: Kind("Q5_0", torch.float32, 32, 22, _q5_0),
    7: Kind("Q5_1", torch.float32, 32, 24, _q5_1),
    8: Kind("Q8_0", torch.float32, 32, 34, _q8_0),
    10: Kind("Q2_K", torch.float32, 256, 84, _q2_k),
    11: Kind("Q3_K", torch.float32, 256, 110, _q3_k),
    12: Kind("Q4_K", torch.float32, 256, 144, _q4_k),
    13: Kind("Q5_K", torch.float32, 256, 176, _q5_k),
    14: Kind("Q6_K", torch.float32, 256, 210, _q6_k),
    26: Kind("I32", torch.int32, 1, 4, _plain(torch.int32)),
    28: Kind("F64", torch.float64, 1, 8, _plain(torch.float64)),
    30: Kind("BF16", torch.bfloat16, 1, 2, _plain(torch.bfloat16)),
}  # by ggml's number
