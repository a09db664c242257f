"""LoRA files in the layouts of kohya, diffusers and peft and in our own, written and read."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..families.model import Model
from ..files.durable import durable_write
from .change import AdapterError, Change, changeable
from .kinds import Full, LoHa, LoKr, Orthogonal, Scaled
from .layer_change import stored
from .layer_names import PEFT, Layout, Role, folders_of, known_names, suffix_of, written_names
from .lora import Factors, LoRA
from .lora_file import CONFIG, MARK, WEIGHTS, read_lora_file

ARCHITECTURES = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512", "sdxl": "stable-diffusion-xl-v1-base"}
KINDS: Mapping[type, str] = {LoHa: "loha", LoKr: "lokr", Full: "full", Orthogonal: "diag-oft", Scaled: "ia3"}
MODELSPEC = ("title", "author", "license", "description", "date")


def save_lora(
    path: Path,
    lora: LoRA,
    model: Model,
    layout: Layout,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a file, or for peft a new folder: the U-Net's there, text encoders' in folders inside it.

    `metadata` is any JSON object; its title, author, license, description and date are also written as other programs
    show them. diffusers' layout knows no alpha, so there it is multiplied into the factors. Raises AdapterError if
    LoRA and model do not fit or numbers are not finite in `dtype`, FileExistsError if peft's folder exists.
    """
    path, noted = Path(path), _noted(lora, model, metadata or {})
    lora.fit(model)
    if layout != "peft":
        tensors = _tensors(lora, written_names(model, layout), layout, dtype)
        durable_write(path, lambda target: save_file(tensors, target, noted))
        return
    names = written_names(model, layout)

    def write(target: Path) -> None:
        for part, name in sorted(folders_of(model).items()):
            own = {path: names[path] for path in lora.changes if path.startswith(f"{part}.")}
            if not own:
                continue
            folder = target if part == "unet" else target / name
            folder.mkdir(parents=True, exist_ok=True)
            save_file(_tensors(lora, own, layout, dtype), folder / WEIGHTS, noted)
            (folder / CONFIG).write_text(json.dumps(_peft_config(lora, own), indent=2), encoding="utf-8")

    durable_write(path, write)


def _tensors(lora: LoRA, names: Mapping[str, str], layout: Layout, dtype: torch.dtype) -> dict[str, Tensor]:
    """Of the layers that have a name here."""
    found = {}
    for path, one in lora.changes.items():
        if path not in names:
            continue
        if not isinstance(one, Factors) and layout in ("diffusers", "peft"):
            kind, remedy = type(one).__name__, "write the kohya layout, or resize it to a LoRA first"
            raise AdapterError(f"{path!r}: {layout}'s layout holds LoRAs and no {kind}; {remedy}")
        values = _values(one, layout) if isinstance(one, Factors) else stored(one)
        for role, value in values.items():
            kept = value.detach().to("cpu", torch.float32 if role == "alpha" else dtype).contiguous()
            if not torch.isfinite(kept).all():
                raise AdapterError(f"{path!r}: {role} holds numbers that {dtype} cannot, or NaN; nothing was written")
            found[names[path] + suffix_of(layout, role)] = kept
    return found


def _values(one: Factors, layout: Layout) -> dict[Role, Tensor]:
    strength = one.strength if layout == "diffusers" else 1.0
    values: dict[Role, Tensor] = {"down": one.down, "up": one.up * strength}
    if layout in ("native", "kohya"):
        values["alpha"] = torch.tensor(one.alpha)
    if one.magnitude is not None and one.magnitude.ndim > 1:
        if layout in ("diffusers", "peft"):
            raise AdapterError(f"a DoRA with a length for each input has no place in {layout}'s layout; write kohya's")
        values["dora_scale"] = one.magnitude.reshape(1, -1, *[1] * (one.down.ndim - 2))
    elif one.magnitude is not None:
        values["magnitude"] = one.magnitude.reshape(_magnitude_shape(one, layout))
    return values


def _magnitude_shape(one: Factors, layout: Layout) -> list[int]:
    """LyCORIS shapes it as a weight with one input; peft, for convolutions, as a picture of one pixel."""
    ones = [1] * (one.down.ndim - 2)
    if layout == "kohya":
        return [-1, 1, *ones]
    return [1, -1, *ones] if ones and layout != "native" else [-1]


def _noted(lora: LoRA, model: Model, metadata: Mapping[str, Any]) -> dict[str, str]:
    """A file's metadata, as ours and as other programs read it."""
    factors = lora.factors.values()
    rank, alpha = (_usual(getattr(one, name) for one in factors) if factors else 1 for name in ("rank", "alpha"))
    family = model.family.name.partition("-")[0]
    architecture = ARCHITECTURES.get("sdxl" if family == "turbo" else family, family)
    convolutions = any(one.down.ndim == 4 and one.down.shape[-1] > 1 for one in factors)
    dora = any(getattr(one, "magnitude", None) is not None for one in lora.changes.values())
    kinds = {KINDS.get(type(one), "locon") for one in lora.changes.values()}
    plain = kinds == {"locon"}
    noted = {
        MARK: json.dumps(dict(metadata)),
        "format": "pt",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_module": "networks.lora" if plain and not dora else "lycoris.kohya",
        "ss_base_model_version": {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}.get(family, family),
        "ss_sd_model_name": model.name,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.prediction_type": model.prediction,
    }
    if model.sha256:
        noted["ss_new_sd_model_hash"] = model.sha256
    if convolutions or dora or not plain:
        algorithm = {"algo": "/".join(sorted(kinds)), "conv_dim": str(rank), "dora_wd": str(dora)}
        noted["ss_network_args"] = json.dumps(algorithm)
    return noted | {f"modelspec.{name}": str(metadata[name]) for name in MODELSPEC if metadata.get(name)}


def _usual(values: Iterator[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _peft_config(lora: LoRA, names: Mapping[str, str]) -> dict[str, Any]:
    """What peft's LoraConfig reads; patterns are regular expressions there."""
    factors = {name.removeprefix(PEFT): lora.factors[path] for path, name in names.items()}
    rank, alpha = (_usual(getattr(one, key) for one in factors.values()) for key in ("rank", "alpha"))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(name)}": one.rank for name, one in factors.items() if one.rank != rank},
        "alpha_pattern": {f"^{re.escape(name)}": one.alpha for name, one in factors.items() if one.alpha != alpha},
        "target_modules": list(factors),
        "use_dora": any(one.magnitude is not None for one in factors.values()),
        "bias": "none",
        "inference_mode": True,
    }


@dataclass(frozen=True)
class Report:
    """What became of a file's tensors, by key."""

    matched: tuple[str, ...]
    unmatched: tuple[str, ...]  # of layers that the model has not, or of a kind that is unknown here
    ignored: tuple[str, ...] = ()  # known to change no layer
    metadata: Mapping[str, Any] = field(default_factory=dict)  # what `save_lora` was given


def load_lora(path: Path | str, model: Model) -> tuple[LoRA, Report]:
    """A LoRA for this model from a file of any layout, or a peft folder, on the model's device; and what was used.

    No file can run code. Raises AdapterError, naming file and key, for one that is damaged, holds numbers that are
    not finite, or fits this model nowhere.
    """
    file = read_lora_file(Path(path))
    known, layers = known_names(model), changeable(model)
    factors, matched, unmatched = dict[str, Change](), list[str](), list(file.unknown)
    for name, tensors in file.layers.items():
        keys = list(tensors.keys.values())
        if name not in known:
            unmatched += keys
            continue
        shapes = [tuple(layers[native].weight.shape) for native in known[name]]
        for native, one in zip(known[name], file.changes(name, shapes, model.family.title), strict=True):
            if native in factors:
                raise AdapterError(f"{path}: {keys[0]!r}: the file changes the layer {native!r} twice")
            factors[native] = one
        matched += keys
    if not factors:
        raise AdapterError(
            f"{path}: none of its {len(file.layers)} layers is in this model ({model.family.title}), for example "
            f"{next(iter(file.layers))!r}; the file looks made for {file.family}"
        )
    lora = LoRA(factors).eval().requires_grad_(requires_grad=False).to(model.device)
    return lora, Report(tuple(sorted(matched)), tuple(sorted(unmatched)), file.ignored, file.metadata)
