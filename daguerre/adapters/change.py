"""What one layer of a model gains from an adapter, whatever kind it is of; all that an adapter's container needs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..families.model import Model

Layer = nn.Linear | nn.Conv2d
Norm = nn.LayerNorm | nn.GroupNorm


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file or the layer, what is wrong, and the remedy."""


def layers_of(model: Model, *, text: bool = True) -> dict[str, Layer]:
    """Every layer that can be adapted, by native path: of the U-Net, and with `text` of the text encoders."""
    found = changeable(model) if text else changeable(model, ("unet",))
    return {path: layer for path, layer in found.items() if isinstance(layer, nn.Linear | nn.Conv2d)}


def changeable(model: Model, parts: Sequence[str] = ("text", "text2", "unet")) -> dict[str, Layer | Norm]:
    """`layers_of`, and the norms, which only files of other programs change."""
    return {
        f"{name}.{path}": module
        for name, part in model.parts.items()
        if name in parts
        for path, module in part.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm)
    }


class Change(nn.Module, ABC):
    """One layer's change; it is linear in the layer's weight and bias, so that `scale` times it is meaningful."""

    @property
    @abstractmethod
    def made_for(self) -> str:
        """What it fits, for people: "weights [320, 768]"."""

    @abstractmethod
    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a layer's weight of this shape can be changed so."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What the layer's weight gains: float32, of the weight's shape."""

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        """What the layer's bias gains, or None."""
        return None

    def forward(self, x: Tensor, layer: Layer | Norm) -> Tensor:
        """What the layer's output gains for input x, in x's number format or autocast's."""
        bias = self.bias_delta(layer.bias)
        return through(layer, x, self.delta(layer.weight).to(x), None if bias is None else bias.to(x))


class Additive(Change):
    """A change that is a matrix of its own; with a magnitude (DoRA, arXiv:2402.09353), the sum gets new lengths.

    `magnitude`: of each output's row, (out,), or of each input's column, (1, in), as LyCORIS did at first.
    """

    def __init__(self, magnitude: Tensor | None = None):
        super().__init__()
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)

    @abstractmethod
    def product(self) -> Tensor:
        """The matrix times its strength, float32, in the weight's shape or with all after the outputs in one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the product, which is not computed for it."""
        values = {name: value.to("meta") for name, value in self.named_parameters()}
        answer = torch.func.functional_call(_Product(self), {f"of.{name}": value for name, value in values.items()}, ())
        return tuple(cast(Tensor, answer).shape)

    @property
    def made_for(self) -> str:
        return f"weights {list(self.shape)}"

    def fits(self, shape: Sequence[int]) -> bool:
        own, lengths = self.shape, self.magnitude
        if lengths is not None and lengths.ndim == 2 and lengths.shape[1] != shape[1]:
            return False
        return own[:1] == tuple(shape[:1]) and torch.Size(own).numel() == torch.Size(shape).numel()

    def ratio(self, weight: Tensor) -> Tensor:
        """New length of each row over the length it would have (section 4.3): (out, 1, ...), or (1, in, ...).

        The latter counts as a constant for gradients, as in the paper, and has no epsilon.
        """
        assert self.magnitude is not None
        ones = [1] * (weight.ndim - 2)
        with torch.no_grad():
            whole = weight.to(self.magnitude).float() + self.product().reshape(weight.shape)
            if self.magnitude.ndim == 1:
                length = whole.flatten(1).norm(dim=1).reshape(-1, 1, *ones)
            else:
                length = whole.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *ones)
        ratio: Tensor = self.magnitude.float().reshape(length.shape) / length
        return ratio

    def delta(self, weight: Tensor) -> Tensor:
        product = self.product().reshape(weight.shape)
        if self.magnitude is None:
            return product
        whole = weight.to(product) + product
        return whole * self.ratio(weight) - weight.to(product)


class _Product(nn.Module):
    """Lets `product` be called with other parameters."""

    def __init__(self, of: Additive):
        super().__init__()
        self.of = of

    def forward(self) -> Tensor:
        return self.of.product()


def through(layer: Layer | Norm, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x through the layer with another weight and bias."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    return F.linear(x, weight, bias)
