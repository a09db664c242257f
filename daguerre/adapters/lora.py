"""Changes to a model's layers, most often of low rank (arXiv:2106.09685): attached, merged, trained.

A layer is named by its native path: the part and the module, such as "unet.mid_attn.blocks.0.cross_attn.q".
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..families.model import Model
from .change import AdapterError, Additive, Change, Layer, Norm, changeable, layers_of, through
from .config import LoRAConfig

CONVOLUTIONS = ("*.conv1", "*.conv2", "*.skip")  # of residual blocks


def seeded(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on seed and name alone, so that one layer more changes no other."""
    digest = hashlib.blake2b(repr((seed, name)).encode(), digest_size=8).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)


class Factors(Additive):
    """One layer's change, `alpha / rank * up @ down`; with a magnitude, that is the new length of each output's row.

    Shapes: down (rank, in) or (rank, in, kh, kw), up (out, rank) or (out, rank, 1, 1), magnitude (out,) or (1, in).
    """

    def __init__(self, down: Tensor, up: Tensor, alpha: float | None = None, magnitude: Tensor | None = None):
        super().__init__(magnitude)
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
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

    @property
    def made_for(self) -> str:
        return f"weights {list(self.shape)} (rank {self.rank})"

    def fits(self, shape: Sequence[int]) -> bool:
        return tuple(shape) == self.shape

    def product(self) -> Tensor:
        matrix = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.strength * matrix.reshape(self.shape)

    def forward(self, x: Tensor, layer: Layer | Norm) -> Tensor:
        """What the layer's output gains, by way of the rank, which is less work than the whole matrix."""
        if self.magnitude is not None and self.magnitude.ndim > 1:
            return super().forward(x, layer)
        h = through(layer, x, self.down.to(x))
        change = self.strength * (F.conv2d if isinstance(layer, nn.Conv2d) else F.linear)(h, self.up.to(h))
        if self.magnitude is None:
            return change
        ratio = self.ratio(layer.weight).to(x.device).flatten()
        ratio = ratio[:, None, None] if isinstance(layer, nn.Conv2d) else ratio
        return (ratio - 1) * through(layer, x, layer.weight) + ratio * change


class LoRA(nn.Module):
    """Changes by native path. Parameters are named by it: "unet.conv_out.down", ".up" and ".magnitude".

    Those that are trained here are of low rank; files of other programs may bring other kinds (kinds.py).
    `dropout` needs `random`, which the training recipe sets before each step: (path, pictures, features) -> uniform
    numbers (pictures, features) in [0, 1). A feature is dropped for all tokens or pixels of a picture at once.
    """

    random: Callable[[str, int, int], Tensor] | None = None

    def __init__(self, changes: Mapping[str, Change], dropout: float = 0.0):
        super().__init__()
        if not 0 <= dropout < 1:
            raise AdapterError(f"a LoRA's dropout is at least 0 and less than 1, not {dropout}")
        self.dropout = dropout
        for path, one in changes.items():
            *folders, leaf = path.split(".")
            place: nn.Module = self
            for name in folders:
                if name not in place._modules:
                    place.add_module(name, nn.Module())
                place = place.get_submodule(name)
            place.add_module(leaf, one)

    @property
    def changes(self) -> dict[str, Change]:
        """By native path."""
        return {path: module for path, module in self.named_modules() if isinstance(module, Change)}

    @property
    def factors(self) -> dict[str, Factors]:
        """Those of low rank, by native path."""
        return {path: one for path, one in self.changes.items() if isinstance(one, Factors)}

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

    def fit(self, model: Model) -> dict[str, Layer | Norm]:
        """The model's layers that this changes, by native path. Raises AdapterError where model and LoRA differ."""
        layers, found = changeable(model), {}
        for path, one in self.changes.items():
            if path not in layers:
                raise AdapterError(
                    f"this LoRA changes the layer {path!r}; the {model.family.name} model has none there"
                )
            shape = list(layers[path].weight.shape)
            if not one.fits(shape):
                raise AdapterError(
                    f"{path!r}: this adapter is for {one.made_for}, the {model.family.name} model's weights are "
                    f"{shape}; it was made for another kind of model"
                )
            if layers[path].bias is None and one.bias_delta(None) is not None:
                raise AdapterError(
                    f"{path!r}: this adapter changes a bias; the {model.family.name} model has none there"
                )
            found[path] = layers[path]
        return found

    @contextmanager
    def attach(self, model: Model, scale: float = 1.0, text_scale: float | None = None) -> Iterator[None]:
        """The model with `scale` times the change, `text_scale` times in its text encoders, for the body.

        The weights are not touched, gradients flow to the factors, and several LoRAs at once add up. A DoRA's change
        is scaled as a whole, so that 0 is the plain model. A compiled network would not see the hooks that do this: a
        LoRA that is not trained there exchanges weights for so long, which needs no compilation.
        """
        layers, changes = self.fit(model), self.changes
        trained = any(parameter.requires_grad for parameter in self.parameters())
        compiled = () if trained else [part for part, one in model.parts.items() if one._compiled_call_impl is not None]
        exchanged = {path for path in layers if path.partition(".")[0] in compiled}
        with ExitStack() as stack:
            for path, layer in layers.items():
                size = scale_of(path, scale, text_scale)
                if path in exchanged:
                    stack.enter_context(_exchanged(layer, changes[path], size))
                else:
                    stack.callback(layer.register_forward_hook(self._hook(path, size)).remove)
            yield

    def _hook(self, path: str, scale: float) -> Callable[[Layer | Norm, tuple[Tensor, ...], Tensor], Tensor]:
        one = self.get_submodule(path)

        def hook(layer: Layer | Norm, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            change: Tensor = one(self._dropped(path, inputs[0], layer), layer)
            return output + (scale * change).to(output.dtype)

        return hook

    def _dropped(self, path: str, x: Tensor, layer: Layer | Norm) -> Tensor:
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
        """Each changed parameter's path and what it gains: float32, one at a time because all fill a model.

        Paths end without ".weight" for a layer's weight, and in ".bias" for its bias.
        """
        changes = self.changes
        for path, layer in self.fit(model).items():
            size = scale_of(path, scale, text_scale)
            yield path, size * changes[path].delta(layer.weight)
            if (bias := changes[path].bias_delta(layer.bias)) is not None:
                yield f"{path}.bias", size * bias

    @torch.no_grad()
    def merge(self, model: Model, scale: float = 1.0, text_scale: float | None = None) -> None:
        """Changes the model's weights for good. Raises AdapterError for a model in low-memory mode."""
        if model.low_memory:
            raise AdapterError("a model in low-memory mode reads its weights again and again; attach the LoRA instead")
        changes = self.changes
        for path, layer in self.fit(model).items():
            _change(layer, changes[path], scale_of(path, scale, text_scale))


@torch.no_grad()
def _change(layer: Layer | Norm, one: Change, scale: float) -> None:
    """Gives a layer new weights, not in place: the old ones may be a file, or be wanted back."""
    gains: list[tuple[Tensor | None, Tensor | None]]
    gains = [(layer.weight, one.delta(layer.weight)), (layer.bias, one.bias_delta(layer.bias))]
    for parameter, gain in gains:
        if parameter is not None and gain is not None:
            parameter.data = (parameter.float() + scale * gain.to(parameter.device)).to(parameter.dtype)


@contextmanager
def _exchanged(layer: Layer | Norm, one: Change, scale: float) -> Iterator[None]:
    """The layer with changed weights, then with the very tensors that it had."""
    before = [(parameter, parameter.data) for parameter in layer.parameters(recurse=False)]
    try:
        _change(layer, one, scale)
        yield
    finally:
        for parameter, data in before:
            parameter.data = data


def scale_of(path: str, scale: float, text_scale: float | None) -> float:
    """How much of a layer's change counts: `text_scale`, if there is one, in text encoders."""
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
