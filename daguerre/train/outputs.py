"""What a run leaves: model and adapter files that say what they were made of."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..adapters.formats import save_lora
from ..adapters.lora import LoRA
from ..adapters.textual_inversion import TextualInversion
from ..checkpoints.identify import Description
from ..checkpoints.writer import write_diffusers, write_ldm
from ..families.catalog import FAMILIES
from ..families.model import Model
from ..request import RequestError
from ..text.tokenizer import tokenizer_files
from .config import Output
from .loop import DTYPES

PURE_NOISE = 100  # a noise ladder that ends above was stretched to pure noise


@dataclass(frozen=True)
class Result:
    """How what was trained is written: `save(path, layout, metadata)` for each of these layouts."""

    layouts: tuple[str, ...]  # the first is the usual one
    save: Callable[[Path, str, Mapping[str, Any]], None]


def wanted_layouts(result: Result, output: Output) -> tuple[str, ...]:
    """The layouts to write; raises RequestError for one that there is not."""
    wanted = output.layouts or result.layouts[:1]
    if unknown := [layout for layout in wanted if layout not in result.layouts]:
        raise RequestError(f"output.layouts: {unknown[0]!r} is none of {', '.join(result.layouts)}")
    return wanted


def write_results(result: Result, output: Output, folder: Path, name: str, metadata: Mapping[str, Any]) -> list[Path]:
    """Writes every wanted layout into `folder`, replacing what an earlier end of the run wrote; returns the paths."""
    wanted = wanted_layouts(result, output)
    told = {k: v for k in ("author", "license", "description") if (v := getattr(output, k))}
    paths = []
    for layout in wanted:
        suffix = "" if layout in ("peft", "diffusers-folder") else ".safetensors"
        path = folder / f"{output.name or name}{'' if layout == wanted[0] else '-' + layout}{suffix}"
        if path.is_dir():
            _remove(path)
        result.save(path, layout, {"title": output.name or name, **told, **metadata})
        paths.append(path)
    return paths


def _remove(folder: Path) -> None:
    for item in sorted(folder.rglob("*"), reverse=True):
        item.rmdir() if item.is_dir() else item.unlink()
    folder.rmdir()


def lora_result(lora: LoRA, model: Model, output: Output) -> Result:
    """A LoRA in the layouts of kohya, diffusers and peft and in our own."""

    def save(path: Path, layout: str, metadata: Mapping[str, Any]) -> None:
        save_lora(path, lora, model, layout, metadata, DTYPES[output.precision])  # type: ignore[arg-type]

    return Result(("kohya", "diffusers", "peft", "native"), save)


def inversion_result(inversion: TextualInversion) -> Result:
    """A new word in one file that A1111, diffusers and daguerre read."""

    def save(path: Path, layout: str, metadata: Mapping[str, Any]) -> None:
        inversion.save(path, metadata)

    return Result(("embedding",), save)


def model_result(model: Model, output: Output) -> Result:
    """A whole model as one ldm file or a diffusers folder."""

    def save(path: Path, layout: str, metadata: Mapping[str, Any]) -> None:
        states = {name: _state(part, output) for name, part in model.parts.items()}
        if layout == "ldm":
            write_ldm(path, states, describe(model), {"daguerre.training": json.dumps(metadata)})
        else:
            write_diffusers(path, states, describe(model), tokenizer_files())

    return Result(("ldm", "diffusers-folder"), save)


def _state(part: nn.Module, output: Output) -> dict[str, Any]:
    return {k: v.detach().to(DTYPES[output.precision]).contiguous() for k, v in part.state_dict().items()}


def describe(model: Model) -> Description:
    """What a file has to say so that this model is read back from it."""
    skips = [e.skip for e in model.family.encodings]
    standard = [e.skip for e in FAMILIES[model.family.name].encodings]
    return Description(
        family=model.family.name,
        prediction=model.prediction,
        zero_snr=model.levels.sigmas[-1].item() > PURE_NOISE,
        unet=model.unet.config,
        vae=model.vae.config,
        text=tuple(text.config for text in model.text),
        unused_layers=skips[0] - standard[0] if len(skips) == 1 else 0,
    )
