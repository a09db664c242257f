"""Pictures that repeat without a seam: convolutions that see the other edge beyond an edge."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from ..families.model import Model
from ..request import RequestError, TextToImage, Tiling


@contextmanager
def tiled(model: Model, request: TextToImage) -> Iterator[None]:
    """The model's U-Net and VAE with edges that meet in the directions of `request.tiling`, for so long.

    Raises RequestError for sides that the networks cannot halve evenly, where the edges would not fit.
    """
    if request.tiling == "off":
        yield
        return
    step = model.vae.config.factor * 2 ** (len(model.unet.config.channels) - 1)
    for side, direction in (("width", "x"), ("height", "y")):
        if request.tiling in (direction, "both") and (pixels := getattr(request, side)) % step:
            raise RequestError(f"{side} is {pixels}; with tiling it must be a multiple of {step}")
    changed: list[tuple[nn.Module, str]] = [(model.vae, "rows_meet")]
    try:
        model.vae.rows_meet = request.tiling != "x"
        for part in (model.unet, model.vae):
            for module in part.modules():
                if isinstance(module, nn.Conv2d) and any(pads := module._reversed_padding_repeated_twice):
                    module._conv_forward = partial(_convolve, module, list(pads), request.tiling)  # type: ignore
                    changed.append((module, "_conv_forward"))
                elif isinstance(module, nn.ZeroPad2d):
                    module.forward = partial(_padded, pads=list(module.padding), tiling=request.tiling)  # type: ignore
                    changed.append((module, "forward"))
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _convolve(
    module: nn.Conv2d, pads: list[int], tiling: Tiling, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    return F.conv2d(_padded(x, pads, tiling), weight, bias, module.stride, 0, module.dilation, module.groups)


def _padded(x: Tensor, pads: list[int], tiling: Tiling) -> Tensor:
    """x (B, C, H, W) with so many columns left and right, and rows above and below."""
    left, right, top, bottom = pads
    x = F.pad(x, (left, right, 0, 0), "circular" if tiling != "y" else "constant")
    return F.pad(x, (0, 0, top, bottom), "circular" if tiling != "x" else "constant")
