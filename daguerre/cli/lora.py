"""`daguerre lora`: what a LoRA file holds, the same in other layouts and sizes, and LoRAs of and into models."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..files.built_in import BUILT_IN
from .exit import UNUSABLE, Failure
from .kinds import Json
from .models import find, resolve

if TYPE_CHECKING:
    from ..adapters.formats import Report
    from ..adapters.lora import LoRA
    from ..families.model import Model

Layout = Literal["native", "kohya", "diffusers", "peft"]
Number = Literal["float32", "float16", "bfloat16"]


def inspect(file: Path, /, *, json_lines: Json = False) -> None:
    """Tell what a LoRA file holds: kinds of change, ranks, the family it looks made for, hash, metadata.

    Parameters
    ----------
    file
        A LoRA file of any tool, or a peft folder.
    json_lines
        Print one JSON object.
    """
    from ..adapters.lora import Factors
    from ..adapters.lora_file import adapter_sha256, read_lora_file

    read = read_lora_file(file)
    changes = {name: read.change(name) for name in read.layers}
    factors = [one for one in changes.values() if isinstance(one, Factors)]
    facts: dict[str, Any] = {
        "path": str(file),
        "family": read.family,
        "layers": len(read.layers),
        "kinds": dict(Counter("LoRA" if isinstance(one, Factors) else type(one).__name__ for one in changes.values())),
        "ranks": dict(Counter(one.rank for one in factors)),
        "convolutions": sum(one.down.ndim == 4 and one.down.shape[-1] > 1 for one in factors),
        "dora": sum(getattr(one, "magnitude", None) is not None for one in changes.values()),
        "sha256": adapter_sha256(file),
        "metadata": dict(read.metadata),
        "unknown": list(read.unknown),
    }
    if json_lines:
        print(json.dumps(facts))
        return
    kinds = ", ".join(f"{kind} ({n} layers)" for kind, n in facts["kinds"].items())
    print(f"{file}: an adapter of {facts['layers']} layers, looks made for {facts['family']}")
    print(f"  kinds  {kinds}")
    if factors:
        print(f"  ranks  {', '.join(f'{rank} ({n} layers)' for rank, n in sorted(facts['ranks'].items()))}")
    print(f"  of these {facts['convolutions']} larger convolutions (LoCon), {facts['dora']} with magnitudes (DoRA)")
    print(f"  sha256 {facts['sha256']}")
    for name, value in facts["metadata"].items():
        print(f"  {name}: {value}")
    if facts["unknown"]:
        print(f"  unknown: {len(facts['unknown'])} tensors, such as {facts['unknown'][0]}")


def convert(
    source: Path, target: Path, /, *, layout: Layout, model: str = BUILT_IN, dtype: Number | None = None
) -> None:
    """Write a LoRA in another tool's layout.

    Parameters
    ----------
    source
        A LoRA file of any tool, or a peft folder.
    target
        The new file, or folder for peft; it must not exist yet.
    layout
        kohya: A1111, ComfyUI and most others read it. diffusers: `load_lora_weights`. peft: folders.
    model
        A model that the LoRA is for: names follow from it.
    dtype
        Number format of the new file; float32 by default.
    """
    _refuse_existing(target)
    base = _model(model)
    lora, report = _load(source, base)
    _save(target, lora, base, layout, report.metadata, dtype)


def resize(
    source: Path,
    target: Path,
    /,
    *,
    rank: int | None = None,
    keep: float | None = None,
    model: str = BUILT_IN,
    layout: Layout = "kohya",
    dtype: Number | None = None,
) -> None:
    """Write the best approximation of a LoRA by fewer ranks.

    Parameters
    ----------
    source
        A LoRA file of any tool, or a peft folder.
    target
        The new file, or folder for peft; it must not exist yet.
    rank
        The most that a layer keeps.
    keep
        The share of each layer's energy that is kept, such as 0.99.
    model
        A model that the LoRA is for.
    layout
        Whose names the new file has.
    dtype
        Number format of the new file; float32 by default.
    """
    from ..adapters.lora_tools import resize as resized

    _refuse_existing(target)
    base = _model(model)
    lora, report = _load(source, base)
    _save(target, resized(lora, rank=rank, energy=keep), base, layout, report.metadata, dtype)


def extract(
    base: str,
    tuned: str,
    target: Path,
    /,
    *,
    rank: int = 32,
    text: Annotated[bool, Parameter(negative="--no-text")] = True,
    layout: Layout = "kohya",
    dtype: Number | None = None,
) -> None:
    """Write a LoRA that turns one model into another as far as its rank allows; needs the memory of a few tensors.

    Parameters
    ----------
    base
        The model to start from.
    tuned
        The model to arrive at.
    target
        The new file, or folder for peft; it must not exist yet.
    rank
        Of every layer.
    text
        The text encoders, too.
    layout
        Whose names the new file has.
    dtype
        Number format of the new file; float32 by default.
    """
    from ..adapters.lora_tools import extract as extracted
    from ..checkpoints.merge import Opened

    _refuse_existing(target)
    lora = extracted(Opened.of(resolve(base)), Opened.of(resolve(tuned)), rank, text=text)
    _save(target, lora, _model(base), layout, {}, dtype)


def combine(
    target: Path,
    *loras: str,
    rank: int | None = None,
    model: str = BUILT_IN,
    layout: Layout = "kohya",
    dtype: Number | None = None,
) -> None:
    """Write one LoRA that does what several do together.

    Parameters
    ----------
    target
        The new file, or folder for peft; it must not exist yet.
    loras
        FILE or FILE:WEIGHT, two or more.
    rank
        The most that a layer keeps; all by default, so that nothing is lost.
    model
        A model that the LoRAs are for.
    layout
        Whose names the new file has.
    dtype
        Number format of the new file; float32 by default.
    """
    from ..adapters.adapted import weighted
    from ..adapters.lora_tools import combine as combined

    _refuse_existing(target)
    base = _model(model)
    files = [weighted(text) for text in loras]
    both = [(_load(file.path, base)[0], file.weight) for file in files]
    _save(target, combined(both, rank), base, layout, {}, dtype)


def merge(target: Path, *loras: str, model: str = BUILT_IN, layout: Literal["ldm", "diffusers"] = "ldm") -> None:
    """Write a model with LoRAs built in, in the number format that it has; needs the memory of a few tensors.

    Parameters
    ----------
    target
        The new file (ldm) or folder (diffusers); it must not exist yet.
    loras
        FILE, FILE:WEIGHT or FILE:WEIGHT:WEIGHT with the text encoders' own weight.
    model
        The model that takes them up.
    layout
        ldm: one safetensors file, as most tools read it. diffusers: a folder.
    """
    from ..adapters.adapted import weighted
    from ..adapters.lora_tools import merged
    from ..checkpoints.merge import Opened
    from ..checkpoints.writer import write_diffusers, write_ldm
    from ..text.tokenizer import tokenizer_files

    _refuse_existing(target)
    if not loras:
        raise Failure("merge: name at least one LoRA", UNUSABLE)
    base, opened = _model(model), Opened.of(resolve(model))
    files = [weighted(text) for text in loras]
    given = [(_load(file.path, base)[0], file.weight, file.text_weight) for file in files]
    for lora, _, _ in given:
        lora.fit(base)
    components = merged(opened, given)
    if layout == "ldm":
        write_ldm(target, components, opened.identity)
    else:
        write_diffusers(target, components, opened.identity, tokenizer_files=tokenizer_files())
    print(target)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise Failure(f"{target} exists already; name another target or remove it", UNUSABLE)


def _model(name: str) -> "Model":
    """Names and shapes of a model's layers; no weights are read."""
    from ..families.loading import load_model

    entry = find(name)
    return load_model(entry.path, name=entry.name, device="cpu", dtype="float32", low_memory=True)


def _load(path: Path, model: "Model") -> "tuple[LoRA, Report]":
    from ..adapters.formats import load_lora

    lora, report = load_lora(path, model)
    if report.unmatched:
        count, first = len(report.unmatched), report.unmatched[0]
        raise Failure(f"{path}: {count} tensors fit no layer of {model.name}, such as {first!r}", UNUSABLE)
    return lora, report


def _save(
    target: Path, lora: "LoRA", model: "Model", layout: Layout, metadata: Mapping[str, Any], dtype: Number | None
) -> None:
    import torch

    from ..adapters.formats import save_lora

    number: torch.dtype = getattr(torch, dtype or "float32")
    save_lora(target, lora, model, layout, metadata, number)
    print(target)
