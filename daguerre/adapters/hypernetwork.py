"""Hypernetworks as NovelAI invented and A1111 trained them: small networks before the keys and values of attention.

Each width of context has two, one for keys and one for values: x + strength * network(x). They act on all attention
whose context is that wide: 768 is the text of SD 1.x, 320, 640 and 1280 are the picture's own features.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..checkpoints.identify import FLOATS
from ..families.model import Model
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from ..models.attention import Attention
from .change import AdapterError

KEY = re.compile(r"(\d{1,5})\.([01])\.(?:linear\.(\d{1,3})|linear([12]))\.(weight|bias)", re.ASCII)
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "linear": nn.Identity, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "swish": nn.Hardswish,
    "hardswish": nn.Hardswish, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "selu": nn.SELU,
    "silu": nn.SiLU, "mish": nn.Mish, "relu6": nn.ReLU6, "softplus": nn.Softplus, "softsign": nn.Softsign,
    "celu": nn.CELU, "hardtanh": nn.Hardtanh, "hardsigmoid": nn.Hardsigmoid, "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink, "hardshrink": nn.Hardshrink, "logsigmoid": nn.LogSigmoid,
}  # fmt: skip
FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


class Hypernetwork(nn.Module):
    """By the width of the context, networks for keys and for values; a network is made of linear layers and norms."""

    def __init__(self, networks: Mapping[int, tuple[nn.Sequential, nn.Sequential]]):
        super().__init__()
        self.networks = nn.ModuleDict({str(width): nn.ModuleList(pair) for width, pair in networks.items()})

    @contextmanager
    def attach(self, model: Model, strength: float = 1.0) -> Iterator[None]:
        """The model with this before keys and values, for the body; the weights are not touched.

        Raises AdapterError for a model without attention of these widths, and for a compiled U-Net.
        """
        self._check(model)
        if model.unet._compiled_call_impl is not None:
            raise AdapterError("a compiled U-Net does not see a hypernetwork; do not compile it")
        with ExitStack() as stack:
            for module in model.unet.modules():
                if isinstance(module, Attention):
                    for layer, network in zip((module.k, module.v), self._of(module), strict=False):
                        stack.callback(layer.register_forward_pre_hook(_hook(network, strength)).remove)
            yield

    def _of(self, attention: Attention) -> list[nn.Module]:
        width = str(attention.k.in_features)
        return list(self.networks.get_submodule(width).children()) if width in self.networks else []

    def _check(self, model: Model) -> None:
        widths = sorted({m.k.in_features for m in model.unet.modules() if isinstance(m, Attention)})
        own = sorted(map(int, self.networks))
        if not set(own) & set(widths):
            made = next((family for width, family in FAMILIES.items() if width in own), "another model")
            raise AdapterError(
                f"this hypernetwork is for contexts of width {own}, made for {made}; this model's "
                f"({model.family.title}) are {widths}"
            )

    @classmethod
    def load(cls, path: Path | str, model: Model) -> Self:
        """A hypernetwork from A1111's .pt, or a safetensors file with the same names, on the model's device.

        No file can run code. Raises AdapterError, naming file and key, for one that is damaged, not finite, or made
        for another kind of model.
        """
        path = Path(path)
        try:
            checkpoint = open_checkpoint(path)
        except CheckpointError as fault:
            raise AdapterError(str(fault)) from None
        try:
            found = cls(_networks(checkpoint))
            found._check(model)
        except AdapterError as fault:
            raise AdapterError(f"{path}: {fault}") from None
        return found.eval().requires_grad_(requires_grad=False).to(model.device)


def _networks(checkpoint: Checkpoint) -> dict[int, tuple[nn.Sequential, nn.Sequential]]:
    layers: dict[tuple[int, int], dict[int, dict[str, Tensor]]] = {}
    for key in checkpoint.tensors:
        if (found := KEY.fullmatch(key)) is None:
            raise AdapterError(f"{key!r}: no hypernetwork has such a tensor")
        width, side, n, old, leaf = found.groups()
        value = checkpoint.tensor(key)
        if value.dtype not in FLOATS or not torch.isfinite(value := value.float()).all():
            raise AdapterError(f"{key!r}: holds numbers that are not finite (NaN or infinity), or no numbers")
        place = int(n) if n is not None else int(old) - 1
        layers.setdefault((int(width), int(side)), {}).setdefault(place, {})[leaf] = value.clone()
    settings = checkpoint.configs.get("pickle") or checkpoint.metadata
    widths = sorted({width for width, _ in layers})
    for width in widths:
        if not {(width, 0), (width, 1)} <= layers.keys():
            raise AdapterError(f"'{width}': the network for keys or for values is missing; get the whole file again")
    return {w: (_network(w, layers[w, 0], settings), _network(w, layers[w, 1], settings)) for w in widths}


def _network(width: int, layers: Mapping[int, Mapping[str, Tensor]], settings: Mapping[str, Any]) -> nn.Sequential:
    """Linear layers, each but the last with an activation behind it, and perhaps a norm; dropout is for training."""
    name = str(settings.get("activation_func") or "linear").lower()
    if name not in ACTIVATIONS:
        raise AdapterError(f"activation_func is {name!r:.60}; known are {', '.join(ACTIVATIONS)}")
    last = max(n for n, layer in layers.items() if layer["weight"].ndim == 2) if _whole(layers) else -1
    made, features = list[nn.Module](), width
    for n, layer in sorted(layers.items()):
        weight, bias = layer.get("weight"), layer.get("bias")
        fits = weight is not None and bias is not None and weight.ndim in (1, 2) and len(bias) == len(weight)
        if weight is None or bias is None or not fits or weight.shape[-1] != features:
            raise AdapterError(f"'{width}.linear.{n}': its shapes do not follow from {features} features")
        one = nn.Linear(features, len(weight)) if weight.ndim == 2 else nn.LayerNorm(features)
        one.load_state_dict({"weight": weight, "bias": bias})
        made.append(one)
        features = len(weight)
        if weight.ndim == 2 and (n != last or settings.get("activate_output", True) is True):
            made.append(ACTIVATIONS[name]())
    if features != width:
        raise AdapterError(f"'{width}': {width} features become {features}")
    return nn.Sequential(*made)


def _whole(layers: Mapping[int, Mapping[str, Tensor]]) -> bool:
    return all("weight" in layer for layer in layers.values()) and any(v["weight"].ndim == 2 for v in layers.values())


def _hook(network: nn.Module, strength: float) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    def hook(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        return (x + (strength * network(x.float())).to(x.dtype),)

    return hook
