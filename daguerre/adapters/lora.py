"""Low-rank changes to a model's layers (arXiv:2106.09685), of convolutions too (LoCon), with lengths apart (DoRA).

A layer is named by its native path: the part and the module, such as "unet.mid_attn.blocks.0.cross_attn.q".
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..families.model import Model
from .config import LoRAConfig

CONVOLUTIONS = ("*.conv1", "*.conv2", "*.skip")  # of residual blocks
Layer = nn.Linear | nn.Conv2d


class AdapterError(ValueError):
    """An adapter that cannot be used; the message names the file or the layer, what is wrong, and the remedy."""


def layers_of(model: Model, *, text: bool = True) -> dict[str, Layer]:
    """Every layer that can be adapted, by native path: of the U-Net, and with `text` of the text encoders."""
    parts = {name: part for name, part in model.parts.items() if name == "unet" or (text and name.startswith("text"))}
    return {
        f"{name}.{path}": module
        for name, part in parts.items()
        for path, module in part.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def seeded(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on seed and name alone, so that one layer more changes no other."""
    digest = hashlib.blake2b(repr((seed, name)).encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)


class Factors(nn.Module):
    """One layer's change, `alpha / rank * up @ down`; with a magnitude, that is the new length of each output's row.

    Shapes: down (rank, in) or (rank, in, kh, kw), up (out, rank) or (out, rank, 1, 1), magnitude (out,).
    """

    def __init__(self, down: Tensor, up: Tensor, alpha: float | None = None, magnitude: Tensor | None = None):
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)
        self.alpha = float(len(down) if alpha is None else alpha)

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def strength(self) -> float:
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that is changed."""
        return (len(self.up), *self.down.shape[1:])

    def product(self) -> Tensor:
        """The low-rank matrix in the weight's shape, float32, times its strength."""
        matrix = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.strength * matrix.reshape(self.shape)

    def ratio(self, weight: Tensor) -> Tensor:
        """DoRA's new length of each row over the length it would have (arXiv:2402.09353, section 4.3): (out,).

        The latter counts as a constant for gradients, as in the paper, and has no epsilon.
        """
        assert self.magnitude is not None
        with torch.no_grad():
            length: Tensor = (weight.to(self.up).float() + self.product()).flatten(1).norm(dim=1)
        ratio: Tensor = self.magnitude.float() / length
        return ratio

    def delta(self, weight: Tensor) -> Tensor:
        """What the layer's weight gains, float32 and of its shape."""
        product = self.product()
        if self.magnitude is None:
            return product
        whole = weight.to(product) + product
        return whole * self.ratio(weight).reshape(-1, *[1] * (whole.ndim - 1)) - weight.to(product)

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        """What the layer's output gains for input x, in x's number format or autocast's."""
        h = _apply(layer, x, self.down.to(x))
        change = self.strength * (F.conv2d if isinstance(layer, nn.Conv2d) else F.linear)(h, self.up.to(h))
        if self.magnitude is None:
            return change
        ratio = self.ratio(layer.weight).to(x.device)
        ratio = ratio[:, None, None] if isinstance(layer, nn.Conv2d) else ratio
        return (ratio - 1) * _apply(layer, x, layer.weight) + ratio * change


def _apply(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """x through the layer with another weight and no bias."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(x, weight)


class LoRA(nn.Module):
    """Low-rank changes by native path. Parameters are named by it: "unet.conv_out.down", ".up" and ".magnitude".

    `dropout` needs `random`, which the training recipe sets before each step: (path, pictures, features) -> uniform
    numbers (pictures, features) in [0, 1). A feature is dropped for all tokens or pixels of a picture at once.
    """

    random: Callable[[str, int, int], Tensor] | None = None

    def __init__(self, factors: Mapping[str, Factors], dropout: float = 0.0):
        super().__init__()
        if not 0 <= dropout < 1:
            raise AdapterError(f"a LoRA's dropout is at least 0 and less than 1, not {dropout}")
        self.dropout = dropout
        for path, one in factors.items():
            *folders, leaf = path.split(".")
            place: nn.Module = self
            for name in folders:
                if name not in place._modules:
                    place.add_module(name, nn.Module())
                place = place.get_submodule(name)
            place.add_module(leaf, one)

    @property
    def factors(self) -> dict[str, Factors]:
        """By native path."""
        return {path: module for path, module in self.named_modules() if isinstance(module, Factors)}

    @classmethod
    def new(cls, model: Model, config: LoRAConfig, seed: int) -> Self:
        """A LoRA that changes nothing yet, on the model's device. Raises AdapterError for settings that fit nothing."""
        _check_patterns(config, layers_of(model))
        layers = layers_of(model, text=config.text)
        factors = {}
        for path, layer in layers.items():
            if rank := _rank(config, path, layer):
                out, *cin = layer.weight.shape
                down = torch.empty(rank, *cin)
                nn.init.kaiming_uniform_(down, math.sqrt(5), generator=seeded(seed, path))
                up = torch.zeros(out, rank, *[1] * (len(cin) - 1))
                length = layer.weight.detach().float().flatten(1).norm(dim=1) if config.dora else None
                factors[path] = Factors(down, up, config.alpha, length)
        if not factors:
            remedy = "change lora.ranks" if config.text else "change lora.targets or lora.ranks, or set lora.text"
            raise AdapterError(f"lora: no layer is left to be trained; {remedy}")
        return cls(factors, config.dropout).to(model.device)

    def fit(self, model: Model) -> dict[str, Layer]:
        """The model's layers that this changes, by native path. Raises AdapterError where model and LoRA differ."""
        layers, found = layers_of(model), {}
        for path, one in self.factors.items():
            if path not in layers:
                raise AdapterError(
                    f"this LoRA changes the layer {path!r}; the {model.family.name} model has none there"
                )
            if tuple(layers[path].weight.shape) != one.shape:
                theirs = list(layers[path].weight.shape)
                raise AdapterError(
                    f"{path!r}: this LoRA (rank {one.rank}) is for weights {list(one.shape)}, "
                    f"the {model.family.name} model's are {theirs}; it was made for another kind of model"
                )
            found[path] = layers[path]
        return found

    @contextmanager
    def attach(self, model: Model, scale: float = 1.0, text_scale: float | None = None) -> Iterator[None]:
        """The model with `scale` times the change, `text_scale` times in its text encoders, for the body.

        The weights are not touched, gradients flow to the factors, and several LoRAs at once add up. A DoRA's change
        is scaled as a whole, so that 0 is the plain model.
        """
        hooks = []
        try:
            for path, layer in self.fit(model).items():
                hook = self._hook(path, _scale(path, scale, text_scale))
                hooks.append(layer.register_forward_hook(hook))
            yield
        finally:
            for handle in hooks:
                handle.remove()

    def _hook(self, path: str, scale: float) -> Callable[[Layer, tuple[Tensor, ...], Tensor], Tensor]:
        one = self.get_submodule(path)

        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            change: Tensor = one(self._dropped(path, inputs[0], layer), layer)
            return output + (scale * change).to(output.dtype)

        return hook

    def _dropped(self, path: str, x: Tensor, layer: Layer) -> Tensor:
        if not self.training or not self.dropout:
            return x
        if self.random is None:
            raise AdapterError("a LoRA with dropout is trained with a source of random numbers: set its `random`")
        axis = 1 if isinstance(layer, nn.Conv2d) else x.ndim - 1
        kept = self.random(path, len(x), x.shape[axis]).to(x.device) >= self.dropout
        shape = [len(x), *[1] * (x.ndim - 1)]
        shape[axis] = x.shape[axis]
        return x * kept.reshape(shape).to(x.dtype) / (1 - self.dropout)

    @torch.no_grad()
    def deltas(self, model: Model, scale: float = 1.0, text_scale: float | None = None) -> Iterator[tuple[str, Tensor]]:
        """Each changed layer's path and what its weight gains: float32, one at a time because all fill a model."""
        factors = self.factors
        for path, layer in self.fit(model).items():
            yield path, _scale(path, scale, text_scale) * factors[path].delta(layer.weight)

    @torch.no_grad()
    def merge(self, model: Model, scale: float = 1.0, text_scale: float | None = None) -> None:
        """Changes the model's weights for good. Raises AdapterError for a model in low-memory mode."""
        if model.low_memory:
            raise AdapterError("a model in low-memory mode reads its weights again and again; attach the LoRA instead")
        layers = self.fit(model)
        for path, delta in self.deltas(model, scale, text_scale):
            weight = layers[path].weight
            weight.data = (weight.float() + delta.to(weight.device)).to(weight.dtype)  # not in place: it may be a file


def _scale(path: str, scale: float, text_scale: float | None) -> float:
    return text_scale if text_scale is not None and path.startswith("text") else scale


def _check_patterns(config: LoRAConfig, layers: Mapping[str, Layer]) -> None:
    for pattern in (*config.targets, *config.ranks):
        if not any(fnmatchcase(path, pattern) for path in layers):
            raise AdapterError(
                f"lora: the pattern {pattern!r} fits none of the model's {len(layers)} layers, "
                f"which are named as {next(iter(layers))!r}"
            )


def _rank(config: LoRAConfig, path: str, layer: Layer) -> int:
    """Of this layer; 0 leaves it out."""
    convolution = isinstance(layer, nn.Conv2d)
    targets = (*config.targets, *(CONVOLUTIONS if config.convolutions and convolution else ()))
    if not any(fnmatchcase(path, pattern) for pattern in targets):
        return 0
    standard = config.conv_rank if convolution and config.conv_rank is not None else config.rank
    rank = next((rank for pattern, rank in config.ranks.items() if fnmatchcase(path, pattern)), standard)
    shape = tuple(layer.weight.shape)
    most = min(shape[0], math.prod(shape[1:]))
    if not 0 <= rank <= most:
        raise AdapterError(f"lora: rank {rank} for {path!r}, whose weights {list(shape)} have room for 0 to {most}")
    return rank
