"""Which number format a machine is fast at, and what to do when a half-precision one is not enough."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class NumericError(ArithmeticError):
    """A result that is no picture; the message says where it arose and what to try."""


def pick_dtype(device: torch.device, name: str | None = None) -> torch.dtype:
    """The named dtype, or the fastest one of `device` that is good enough for pictures.

    Half-precision weights of a file run in float32 on most CPUs: emulated bfloat16 is up to 29 times slower. It keeps 8
    bits, which shows in a picture, so it has to be much faster: matrix units (AMX) are, vector instructions (AVX-512)
    are not, 1.2 times for a whole U-Net. What the processor has decides, never a measurement: a busy moment would
    draw another picture.
    """
    if name is not None:
        if name not in DTYPES:
            raise ValueError(f"no dtype {name!r}; choose one of {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_matrix_units() else torch.float32
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return torch.float32  # no tensor cores; on most Pascal chips float16 is 64 times slower
    return torch.float16  # not bfloat16: the weights are published in float16, and its 3 more bits show


def _cpu_has_matrix_units() -> bool:
    query: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # not in torch 2.6
    return bool(query().get("amx_bf16"))


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
