"""Writes native state dicts as an ldm single file or a diffusers folder, whole or not at all, bit for bit."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..files.checkpoint import CheckpointError
from ..files.durable import durable_write
from ..files.reader import SETTINGS
from ..files.safetensors_writer import Deferred, deferred, save_deferred, write_deferred
from ..models.clip import CLIPTextConfig
from .folder_config import describe, pipeline_files
from .identify import Description
from .layout import Part, Source
from .tables import Config, table

State = Mapping[str, Tensor | Deferred]  # native parameter -> values
Files = Mapping[str, bytes]  # name -> content
PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}


def write_ldm(
    path: Path, components: Mapping[str, State], model: Description, metadata: Mapping[str, str] | None = None
) -> None:
    """One safetensors file in the original layout, of native state dicts by part: unet, vae, text, text2.

    What shapes do not show goes into the file's metadata, so that what is read back equals what was written.
    """
    large = model.unet is not None and model.unet.vector > 0
    tensors: dict[str, Deferred] = {}
    for name, state in components.items():
        config, part = model.configs[name], Part(name, "ldm", PREFIXES.get(name, ""))
        if isinstance(config, CLIPTextConfig):  # of the encoders in use, OpenCLIP's are those with plain GELU
            root = f"conditioner.embedders.{int(name == 'text2')}" if large else "cond_stage_model"
            layout, place = ("openclip", "model") if config.activation == "gelu" else ("hf", "transformer")
            part = Part(name, layout, f"{root}.{place}.")
        tensors |= _stored(path, part, config, state)
    marks = {"v_pred": large and model.prediction == "v", "ztsnr": large and model.zero_snr}
    tensors |= {mark: deferred(torch.empty(0)) for mark, holds in marks.items() if holds}  # as other programs know them
    noted = {**(metadata or {}), "format": "pt", SETTINGS: json.dumps(describe(model))}
    save_deferred(path, tensors, noted)


def write_diffusers(
    folder: Path, components: Mapping[str, State], model: Description, tokenizer_files: Files | None = None
) -> None:
    """A new folder for diffusers' `from_pretrained`. `tokenizer_files`: CLIP's vocabulary, by file name."""
    if folder.exists():
        raise CheckpointError(folder, "exists already", remedy="Name a new folder")
    try:
        files = pipeline_files(model, tokenizer_files or {})
    except ValueError as fault:
        raise CheckpointError(folder, f"not written: {fault}", remedy="Write the ldm layout") from None

    def write(target: Path) -> None:
        for name, content in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
        for name, config in model.configs.items():
            layout, stem = ("hf", "model") if "text" in name else ("diffusers", "diffusion_pytorch_model")
            tensors = _stored(folder, Part(name, layout), config, components[name])
            write_deferred(target / model.folders[name] / f"{stem}.safetensors", tensors, {"format": "pt"})

    durable_write(folder, write)


def _stored(path: Path, part: Part, config: Config, state: State) -> dict[str, Deferred]:
    """The network's tensors by their names and in their shapes in the file."""
    sources, holders = table(part, config), defaultdict[str, list[Deferred]](list)
    values = {name: deferred(value) for name, value in state.items()}
    for name in sources.keys() | values.keys():
        if name not in sources or name not in values or values[name].shape != sources[name].shape:
            raise CheckpointError(path, f"not written: this is no state of {config}", key=name)
    for name, source in sources.items():
        holders[source.key].append(values[name])
    held = {source.key: source for source in sources.values()}
    return {key: _joined(held[key], parts) for key, parts in holders.items()}


def _joined(source: Source, parts: list[Deferred]) -> Deferred:
    """The file's tensor, of the one or three native ones that it holds."""
    return Deferred(
        source.stored, parts[0].dtype, lambda: source.to_stored([part.make().detach().cpu() for part in parts])
    )
