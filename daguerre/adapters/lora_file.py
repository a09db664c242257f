"""A LoRA file as it is read: layers by the name that the file gives them, every number checked before it is used."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.identify import FLOATS
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from .layer_names import FOLDERS, PEFT, Role, split_key
from .lora import AdapterError, Factors

MARK = "daguerre"  # in a file's metadata: what its maker said of it, as JSON
DIFFUSERS_MARK = "lora_adapter_metadata"  # likewise, diffusers': peft's settings by part
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG = 1 << 20  # bytes of adapter_config.json
MAX_RANK = 1 << 14
IGNORED = re.compile(r"bundle_emb\..*|.*\bposition_ids|.*\blogit_scale\b.*")
KINDS = {  # what else an adapter's file may be, by a word in its keys
    "hada_w1": "a LoHa, which is not supported; merge it into a model with the tool that made it",
    "lokr_w": "a LoKr, which is not supported; merge it into a model with the tool that made it",
    "oft_": "an OFT, which is not supported; merge it into a model with the tool that made it",
    "string_to_param": "a textual inversion; use it as an embedding",
    "emb_params": "a textual inversion; use it as an embedding",
    "clip_l": "a textual inversion; use it as an embedding",
    "conv_in.weight": "a whole model; use it as a model",
    "input_blocks.0.0.weight": "a whole model; use it as a model",
}
TRANSFORMERS = {  # names that no U-Net's layers have
    r"double_blocks|single_blocks|single_transformer_blocks": "Flux",
    r"joint_blocks|^(lora_)?transformer[._]": "Stable Diffusion 3 or another transformer",
}
UNKNOWN = "a model of unknown kind"
WIDTHS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
    1280: "SDXL's refiner",
}


@dataclass(frozen=True)
class PeftSettings:
    """How strong peft makes a layer's change."""

    alpha: float
    patterns: Mapping[str, float]  # names of layers, or their ends
    rank_stabilized: bool = False

    def of(self, name: str, rank: int) -> float:
        """The alpha of our formula. Patterns are compared, never run: a file may not choose how long that takes."""
        ends = (key for key in self.patterns if name == key.lstrip("^") or name.endswith(f".{key}"))
        alpha = self.patterns.get(next(ends, ""), self.alpha)
        return alpha * math.sqrt(rank) if self.rank_stabilized else alpha


@dataclass
class LayerTensors:
    """What a file says of one layer."""

    keys: dict[Role, str] = field(default_factory=dict)
    values: dict[Role, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LoRAFile:
    """A file or a peft folder, not yet applied to any model."""

    path: Path
    layers: Mapping[str, LayerTensors]  # by the name in the file
    settings: Mapping[str, PeftSettings]  # by the beginning of the name
    unknown: tuple[str, ...]
    ignored: tuple[str, ...]
    metadata: Mapping[str, Any]

    @property
    def family(self) -> str:
        """What kind of model the layers look made for."""
        for words, family in TRANSFORMERS.items():
            if any(re.search(words, name) for name in self.layers):
                return family
        for name, layer in self.layers.items():
            if re.search(r"attn2[._]to_k$|cross_attn\.k$", name) and "down" in layer.values:
                return WIDTHS.get(layer.values["down"].flatten(1).shape[-1], UNKNOWN)
        return WIDTHS[2048] if any("te2_" in n or "text_encoder_2" in n for n in self.layers) else UNKNOWN

    def factors(self, name: str, shapes: Sequence[tuple[int, ...]], title: str) -> Iterator[Factors]:
        """This layer's change for native weights of these shapes: one, or three that the file has in one matrix."""
        layer = self.layers[name]
        down, up, magnitude = self.checked(name)
        count, ndim = len(shapes), len(shapes[0])
        flat = down.shape[2:] in ((), (1, 1))
        down = down.flatten(1).reshape(*down.shape[:2], *[1] * (ndim - 2)) if flat else down
        shape = (len(up), *down.shape[1:])
        if shape != (count * shapes[0][0], *shapes[0][1:]):
            wanted = [count * shapes[0][0], *shapes[0][1:]]
            reason = f"is for weights {list(shape)}; this model's ({title}) are {wanted}"
            raise self._error(layer, "up", f"{reason}. The file looks made for {self.family}")
        up = up.reshape(len(up), -1, *[1] * (ndim - 2))
        alpha = self._alpha(name, layer, len(down))
        thirds = magnitude.chunk(count) if magnitude is not None else [None] * count
        for part, length in zip(up.chunk(count), thirds, strict=True):
            yield Factors(down.clone(), part.clone(), alpha, length if length is None else length.clone())

    def checked(self, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """A layer's down, up and magnitude (out,), or None, as float32. Raises AdapterError, naming the key."""
        layer = self.layers[name]
        if len(half := layer.values.keys() & {"down", "up"}) < 2:
            role = next(iter(half or layer.values))
            raise self._error(layer, role, "the other half of the layer's change is missing; get the whole file again")
        values = {role: self._finite(layer, role) for role in layer.values}
        down, up, magnitude = values["down"], values["up"], values.get("magnitude")
        if (mid := values.get("mid")) is not None:  # LyCORIS: a convolution of three factors
            if mid.ndim != 4 or down.ndim != 4 or mid.shape[:2] != (len(down), len(down)):
                raise self._error(layer, "mid", f"its shape {list(mid.shape)} does not fit {list(down.shape)}")
            down = torch.einsum("rsij,scxy->rcij", mid, down)
        sound = down.ndim in (2, 4) and up.ndim in (2, 4) and up.shape[2:] in ((), (1, 1))
        if not sound or up.shape[1] != len(down) or not 0 < len(down) <= MAX_RANK or not up.numel() * down.numel():
            reason = f"shapes {list(down.shape)} (down) and {list(up.shape)} (up) are of no common rank"
            raise self._error(layer, "down", reason)
        if magnitude is not None:
            outputs, ones = len(up), [1] * (down.ndim - 2)
            if list(magnitude.shape) not in (
                [outputs],
                [outputs, 1, *ones],
                [1, outputs, *ones] if ones else [outputs],
            ):
                reason = f"its shape {list(magnitude.shape)} does not give each of {outputs} outputs a length"
                raise self._error(layer, "magnitude", reason)
            magnitude = magnitude.flatten()
        return down, up, magnitude

    def _finite(self, layer: LayerTensors, role: Role) -> Tensor:
        value = layer.values[role]
        if value.dtype not in FLOATS and role != "alpha":  # kohya's alpha may be a whole number
            raise self._error(layer, role, f"numbers of the kind {value.dtype} cannot be used")
        if not torch.isfinite(value := value.float()).all():
            raise self._error(layer, role, "holds numbers that are not finite (NaN or infinity); do not use it")
        return value

    def _alpha(self, name: str, layer: LayerTensors, rank: int) -> float:
        if "alpha" in layer.values:
            if layer.values["alpha"].numel() != 1:
                raise self._error(layer, "alpha", "should be one number")
            return layer.values["alpha"].item()
        for start, settings in self.settings.items():
            if name.startswith(start):
                return settings.of(name.removeprefix(start).removeprefix(PEFT), rank)
        return float(rank)

    def _error(self, layer: LayerTensors, role: Role, reason: str) -> AdapterError:
        return AdapterError(f"{self.path}: {layer.keys[role]!r}: {reason}")


def read_lora_file(path: Path) -> LoRAFile:
    """A file, or a folder in peft's layout. Raises AdapterError for one that is unreadable or holds no LoRA."""
    layers, settings = defaultdict[str, LayerTensors](LayerTensors), dict[str, PeftSettings]()
    unknown, ignored, metadata = list[str](), list[str](), dict[str, Any]()
    for prefix, file in _files(path):
        checkpoint = _open(file)
        metadata |= _json(file, MARK, checkpoint.metadata.get(MARK, "{}"))
        settings |= _settings(file, prefix, checkpoint)
        for key in checkpoint.tensors:
            if IGNORED.fullmatch(key):
                ignored.append(key)
            elif (found := split_key(key)) is None:
                unknown.append(key)
            else:
                name, role = found
                layer = layers[prefix + name.removeprefix(PEFT) if prefix else name]
                if role in layer.values:
                    raise AdapterError(f"{file}: {key!r}: there is {layer.keys[role]!r}, too; only one can be meant")
                layer.keys[role], layer.values[role] = key, checkpoint.tensor(key)
    if not any(layer.values.keys() & {"down", "up"} for layer in layers.values()):
        kind = next((kind for word, kind in KINDS.items() if any(word in key for key in unknown)), "")
        raise AdapterError(f"{path}: no LoRA is in it" + (f"; it holds {kind}" if kind else ""))
    return LoRAFile(path, dict(layers), settings, tuple(unknown), tuple(sorted(ignored)), metadata)


def adapter_sha256(path: Path) -> str:
    """The identity of a file, or of a peft folder's weights."""
    if not path.is_dir():
        return _open(path).sha256
    files = tuple(sorted(file for _, file in _files(path)))
    return Checkpoint(path, {}, lambda _: torch.empty(0), files).sha256


def _open(file: Path) -> Checkpoint:
    try:
        return open_checkpoint(file)
    except CheckpointError as fault:
        raise AdapterError(str(fault)) from None


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """The files, and what is put before the names of layers in them: nothing, or diffusers' name of the part."""
    if not path.is_dir():
        yield "", path
        return
    found = False
    for folder in ("", *FOLDERS.values()):
        for name in (WEIGHTS, "adapter_model.bin"):
            if (file := path / folder / name).is_file():
                found = True
                yield f"{folder}." if folder else "", file
                break
    if not found:
        raise AdapterError(f"{path}: there is no {WEIGHTS} in this folder, as peft would write it")


def _settings(file: Path, prefix: str, checkpoint: Checkpoint) -> dict[str, PeftSettings]:
    """peft's settings by the beginning of names, from the file beside this one or from this file's metadata."""
    config, found = file.with_name(CONFIG), dict[str, PeftSettings]()
    if file.stem == "adapter_model" and config.is_file():
        with config.open("rb") as opened:
            text = opened.read(MAX_CONFIG + 1)
        found[prefix or PEFT] = _peft(config, "", _json(config, "", text))
    by_part = defaultdict[str, dict[str, Any]](dict)
    for key, value in _json(file, DIFFUSERS_MARK, checkpoint.metadata.get(DIFFUSERS_MARK, "{}")).items():
        part, _, name = key.partition(".")
        by_part[part][name] = value
    for part, values in by_part.items():
        if part in FOLDERS.values():
            found[f"{part}."] = _peft(file, f"{DIFFUSERS_MARK}: {part}.", values)
    return found


def _peft(file: Path, place: str, values: Mapping[str, Any]) -> PeftSettings:
    alpha, patterns = values.get("lora_alpha", 8), values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(_is_number(number) for number in (alpha, *patterns.values())):
        raise AdapterError(f"{file}: {place}lora_alpha and {place}alpha_pattern should be finite numbers")
    plain = {key.replace("\\", ""): float(number) for key, number in patterns.items()}
    return PeftSettings(float(alpha), plain, values.get("use_rslora") is True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _json(file: Path, key: str, text: str | bytes) -> dict[str, Any]:
    where = f"{file}: {key!r}" if key else str(file)
    if len(text) > MAX_CONFIG:
        raise AdapterError(f"{where}: more than {MAX_CONFIG:,} bytes of JSON")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise AdapterError(f"{where}: should be a JSON object")
    return values
