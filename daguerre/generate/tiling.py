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
    before, model.vae.rows_meet = model.vae.rows_meet, request.tiling != "x"
    try:
        with meeting(model.unet, request.tiling), meeting(model.vae, request.tiling):
            yield
    finally:
        model.vae.rows_meet = before


@contextmanager
def meeting(network: nn.Module, tiling: Tiling) -> Iterator[None]:
    """A network whose edges meet in these directions alone, for so long; it nests."""
    changed: list[tuple[nn.Module, str, object]] = []
    try:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and any(pads := module._reversed_padding_repeated_twice):
                name, new = "_conv_forward", partial(_convolve, module, list(pads), tiling)
            elif isinstance(module, nn.ZeroPad2d):
                name, new = "forward", partial(_padded, pads=list(module.padding), tiling=tiling)
            else:
                continue
            changed.append((module, name, vars(module).get(name)))
            setattr(module, name, new)
        yield
    finally:
        for module, name, before in changed:
            delattr(module, name)
            if before is not None:
                setattr(module, name, before)


def refuse_tiling(request: TextToImage, why: str) -> None:
    """Raises RequestError where the edges of a picture shall meet that cannot, which it says why."""
    if request.tiling != "off":
        raise RequestError(f"tiling is {request.tiling!r}, but {why}; leave it out")


def meets(tiling: Tiling) -> tuple[bool, bool]:
    """Whether the last row is a neighbor of the first, and the last column."""
    return tiling in ("y", "both"), tiling in ("x", "both")


def _convolve(
    module: nn.Conv2d, pads: list[int], tiling: Tiling, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    return F.conv2d(_padded(x, pads, tiling), weight, bias, module.stride, 0, module.dilation, module.groups)


def _padded(x: Tensor, pads: list[int], tiling: Tiling) -> Tensor:
    """x (B, C, H, W) with so many columns left and right, and rows above and below."""
    left, right, top, bottom = pads
    rows, columns = ("circular" if meet else "constant" for meet in meets(tiling))
    return F.pad(F.pad(x, (left, right, 0, 0), columns), (0, 0, top, bottom), rows)
