"""A LoRA file as it is read: layers by the name that the file gives them, every number checked before it is used."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.identify import FLOATS
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from .change import AdapterError, Additive, Change
from .kinds import Full
from .layer_change import MisfitError, built
from .layer_names import FOLDERS, PEFT, Role, split_key
from .lora import Factors

MARK = "daguerre"  # in a file's metadata: what its maker said of it, as JSON
DIFFUSERS_MARK = "lora_adapter_metadata"  # likewise, diffusers': peft's settings by part
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG = 1 << 20  # bytes of adapter_config.json
IGNORED = re.compile(r"bundle_emb\..*|.*\bposition_ids|.*\blogit_scale\b.*")
KINDS = {  # what else an adapter's file may be, by a word in its keys
    "oft_R": "peft's OFT, which is not supported; merge it into a model with peft",
    "oft_diag": "an OFT of a form that was given up in 2023; merge it into a model with the tool that made it",
    "linear.0.weight": "a hypernetwork; use it as one",
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
    rank: int = 8  # for a LoKr of whole matrices, which do not tell it

    def of(self, name: str, rank: int | None) -> float:
        """The alpha of our formula. Patterns are compared, never run: a file may not choose how long that takes."""
        ends = (key for key in self.patterns if name == key.lstrip("^") or name.endswith(f".{key}"))
        alpha = self.patterns.get(next(ends, ""), self.alpha)
        if rank is None:
            return alpha / self.rank
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
        for name in self.layers:
            if re.search(r"attn2[._]to_k$|cross_attn\.k$", name) and (shape := self._shape(name)):
                return WIDTHS.get(shape[1], UNKNOWN)
        return WIDTHS[2048] if any("te2_" in n or "text_encoder_2" in n for n in self.layers) else UNKNOWN

    def _shape(self, name: str) -> tuple[int, ...] | None:
        try:
            one = self.change(name)
        except AdapterError:
            return None
        return one.shape if isinstance(one, Additive) else None

    def changes(self, name: str, shapes: Sequence[tuple[int, ...]], title: str) -> Iterator[Change]:
        """This layer's change for native weights of these shapes: one, or three that the file has in one matrix."""
        layer, count = self.layers[name], len(shapes)
        one, wanted = self.change(name), (count * shapes[0][0], *shapes[0][1:])
        if isinstance(one, Factors) and one.down.shape[2:] in ((), (1, 1)):
            one = _flattened(one, len(wanted))
        if not one.fits(wanted):
            role = "up" if "up" in layer.keys else next(iter(layer.keys))
            reason = f"is for {one.made_for}; this model's weights ({title}) are {list(wanted)}"
            raise self._error(layer, role, f"{reason}. The file looks made for {self.family}")
        if count == 1:
            yield one
        elif isinstance(one, Factors):
            lengths = [None] * count if one.magnitude is None else one.magnitude.detach().chunk(count)
            for up, length in zip(one.up.detach().chunk(count), lengths, strict=True):
                yield Factors(
                    one.down.detach().clone(), up.clone(), one.alpha, length if length is None else length.clone()
                )
        elif isinstance(one, Additive) and one.magnitude is None:
            yield from (Full(part.clone()) for part in one.product().detach().reshape(wanted).chunk(count))
        else:
            raise self._error(layer, next(iter(layer.keys)), "this kind of change cannot be divided into q, k and v")

    def change(self, name: str) -> Change:
        """A layer's change of whatever kind, in float32. Raises AdapterError, naming the key."""
        layer = self.layers[name]
        values = {role: self._finite(layer, role) for role in layer.values}
        for role in ("alpha", "on_input"):
            if role in values and values[role].numel() != 1:
                raise self._error(layer, role, "should be one number")

        try:
            return built(values, partial(self._alpha, name, values))
        except MisfitError as fault:
            raise self._error(
                layer, fault.role if fault.role in layer.keys else next(iter(layer.keys)), str(fault)
            ) from None

    def _finite(self, layer: LayerTensors, role: Role) -> Tensor:
        value = layer.values[role]
        if value.dtype not in FLOATS and role not in ("alpha", "on_input"):  # kohya's alpha may be a whole number
            raise self._error(layer, role, f"numbers of the kind {value.dtype} cannot be used")
        if not torch.isfinite(value := value.float()).all():
            raise self._error(layer, role, "holds numbers that are not finite (NaN or infinity); do not use it")
        return value

    def _alpha(self, name: str, values: Mapping[Role, Tensor], rank: int | None) -> float:
        """What is divided by the rank; for a LoKr of whole matrices, which has none, the strength itself."""
        for start, settings in self.settings.items():
            if "alpha" not in values and name.startswith(start):
                return settings.of(name.removeprefix(start).removeprefix(PEFT), rank)
        return float(values["alpha"].item()) if rank and "alpha" in values else float(rank or 1)

    def _error(self, layer: LayerTensors, role: Role, reason: str) -> AdapterError:
        return AdapterError(f"{self.path}: {layer.keys[role]!r}: {reason}")


def _flattened(one: Factors, ndim: int) -> Factors:
    """With as many dimensions as the weight: 1x1 convolutions and linear layers are about for the same layer."""
    ones = [1] * (ndim - 2)
    down, up = (value.detach().flatten(1).reshape(*value.shape[:2], *ones) for value in (one.down, one.up))
    return Factors(down.clone(), up.clone(), one.alpha, None if one.magnitude is None else one.magnitude.detach())


def read_lora_file(path: Path) -> LoRAFile:
    """A file, or a folder in peft's layout. Raises AdapterError for one that is unreadable or holds no LoRA."""
    layers, settings = defaultdict[str, LayerTensors](LayerTensors), dict[str, PeftSettings]()
    unknown, ignored, metadata = dict[str, Checkpoint](), list[str](), dict[str, Any]()
    for prefix, file in _files(path):
        checkpoint = _open(file)
        metadata |= _json(file, MARK, checkpoint.metadata.get(MARK, "{}"))
        settings |= _settings(file, prefix, checkpoint)
        for key in checkpoint.tensors:
            if IGNORED.fullmatch(key):
                ignored.append(key)
            elif (found := split_key(key)) is None:
                unknown[key] = checkpoint
            else:
                name, role = found
                layer = layers[prefix + name.removeprefix(PEFT) if prefix else name]
                if role in layer.values:
                    raise AdapterError(f"{file}: {key!r}: there is {layer.keys[role]!r}, too; only one can be meant")
                layer.keys[role], layer.values[role] = key, checkpoint.tensor(key)
    for name, layer in layers.items():  # IA3's vectors are called as a layer's weight, but for what stands beside them
        if "on_input" in layer.values and (key := f"{name}.weight") in unknown:
            layer.keys["ia3"], layer.values["ia3"] = key, unknown.pop(key).tensor(key)
    if not any(layer.values.keys() - {"alpha", "on_input"} for layer in layers.values()):
        kind = next((kind for word, kind in KINDS.items() if any(word in key for key in unknown)), "")
        raise AdapterError(f"{path}: no LoRA is in it" + (f"; it holds {kind}" if kind else ""))
    return LoRAFile(path, dict(layers), settings, tuple(unknown), tuple(sorted(ignored)), metadata)


def adapter_sha256(path: Path) -> str:
    """The identity of a file of any kind, or of a peft folder's weights."""
    files = tuple(sorted(file for _, file in _files(path))) if path.is_dir() else (path,)
    if not path.exists():
        raise AdapterError(f"{path}: there is no such file")
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
    key = "alpha" if values.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha"
    alpha, patterns, rank = values.get(key, 8), values.get("alpha_pattern") or {}, values.get("r", 8)
    if not isinstance(patterns, dict) or not all(_is_number(number) for number in (alpha, *patterns.values())):
        raise AdapterError(f"{file}: {place}{key} and {place}alpha_pattern should be finite numbers")
    if not _is_number(rank) or rank < 1:
        raise AdapterError(f"{file}: {place}r should be a positive number")
    plain = {key.replace("\\", ""): float(number) for key, number in patterns.items()}
    return PeftSettings(float(alpha), plain, values.get("use_rslora") is True, rank)


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
