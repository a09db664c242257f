"""Pictures that repeat without a seam: convolutions that see the other edge beyond an edge."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from ..families.model import Model
from ..request import RequestError, TextToImage, Tiling


@dataclass(frozen=True, kw_only=True)
class Repeating(Model):
    """A model whose U-Net and VAE have edges that meet while they compute, and no longer: others may draw by them."""

    tiling: Tiling

    @contextmanager
    def on_device(self, part: str) -> Iterator[nn.Module]:
        """As in `Model`; the edges of the VAE meet meanwhile. Those of the U-Net do in each of its calls."""
        with super().on_device(part) as network:
            if part != "vae":
                yield network
                return
            before, self.vae.rows_meet = self.vae.rows_meet, self.tiling != "x"
            try:
                with meeting(self.vae, self.tiling):
                    yield network
            finally:
                self.vae.rows_meet = before

    def _network(self, x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None) -> Tensor:
        with meeting(self.unet, self.tiling):
            return super()._network(x, t, tokens, vector)


def tiled(model: Model, request: TextToImage) -> Model:
    """The model with edges that meet in the directions of `request.tiling`.

    Raises RequestError for sides that the networks cannot halve evenly, where the edges would not fit.
    """
    if request.tiling == "off":
        return model
    step = model.vae.config.factor * 2 ** (len(model.unet.config.channels) - 1)
    for side, direction in (("width", "x"), ("height", "y")):
        if request.tiling in (direction, "both") and (pixels := getattr(request, side)) % step:
            raise RequestError(f"{side} is {pixels}; with tiling it must be a multiple of {step}")
    return repeating(model, request.tiling)


def repeating(model: Model, tiling: Tiling) -> Repeating:
    """The model with edges that meet in these directions alone."""
    return Repeating(**{f.name: getattr(model, f.name) for f in fields(Model)}, tiling=tiling)


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
