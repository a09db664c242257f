"""Which number format a machine is fast at, and what to do when a half-precision one is not enough."""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# bfloat16 keeps 8 bits, which shows in a picture: it has to be so much faster that no one would wait for float32.
# Matrix units (AMX) reach this, vector instructions (AVX-512) do not: they give about 2.7, and 1.2 for a whole U-Net.
WORTH_IT = 4.0


class NumericError(ArithmeticError):
    """A result that is no picture; the message says where it arose and what to try."""


def pick_dtype(device: torch.device, name: str | None = None) -> torch.dtype:
    """The named dtype, or the fastest one of `device` that is good enough for pictures.

    Half-precision weights of a file run in float32 on most CPUs: emulated bfloat16 is up to 29 times slower.
    """
    if name is not None:
        if name not in DTYPES:
            raise ValueError(f"no dtype {name!r}; choose one of {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() and _bfloat16_speedup() >= WORTH_IT else torch.float32
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return torch.float32  # no tensor cores; on most Pascal chips float16 is 64 times slower
    return torch.float16  # not bfloat16: the weights are published in float16, and its 3 more bits show


def _cpu_has_bfloat16() -> bool:
    query: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # not in torch 2.6
    capabilities = query()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


@cache
@torch.inference_mode()
def _bfloat16_speedup() -> float:
    """How many times faster a convolution and a matrix product are in bfloat16; takes about 50 ms.

    One thread and the best of interleaved rounds, so that a busy machine answers as an idle one does: another
    answer would be another picture.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        for _ in range(4):
            for dtype in best:
                image = torch.ones(1, 256, 16, 16, dtype=dtype)
                kernel = torch.ones(256, 256, 3, 3, dtype=dtype)
                matrix = torch.ones(512, 512, dtype=dtype)
                start = time.perf_counter()
                F.conv2d(image, kernel, padding=1)
                matrix @ matrix
                best[dtype] = min(best[dtype], time.perf_counter() - start)
        return best[torch.float32] / best[torch.bfloat16]
    finally:
        torch.set_num_threads(threads)


def require_finite(latents: Tensor, where: str) -> None:
    """Raises NumericError if `latents` hold NaN or infinity; `where` is such as "step 3 of 20"."""
    if not latents.isfinite().all():
        raise NumericError(
            f"the model produced no finite numbers at {where}; try --dtype float32, and if that "
            "does not help the weights are damaged or the guidance is far too strong"
        )


def decode_checked(vae: nn.Module, decode: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """`decode(latents)`: pixels (B, 3, H, W), about [-1, 1], all finite and no picture black.

    `decode` runs `vae`. Some VAEs overflow in half precision: then it runs once more, with `vae` in float32
    for that time. Raises NumericError if this does not help, and for a black picture, a failure in disguise.
    """
    require_finite(latents, "the end of sampling")
    pixels = decode(latents)
    dtype = next(vae.parameters()).dtype
    if dtype != torch.float32 and not pixels.isfinite().all():
        vae.float()
        try:
            pixels = decode(latents.float())
        finally:
            vae.to(dtype)  # without loss: the weights were of this dtype
    require_finite(pixels, "the decoding of the latents")
    for index, brightest in enumerate(pixels.amax(dim=(1, 2, 3)).tolist()):
        if brightest < -1 + 2 / 255:  # below 1 of 255 everywhere
            raise NumericError(
                f"picture {index} of the batch is all black and is not kept; "
                "try --dtype float32, another VAE or another seed"
            )
    return pixels
