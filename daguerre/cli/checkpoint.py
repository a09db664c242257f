"""`daguerre checkpoint`: what a model file holds, and the same model in another layout."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .exit import UNUSABLE, Failure
from .models import resolve

SHOWN = 8  # keys listed of each kind before "and N more"


def inspect(
    model: str,
    /,
    *,
    verbose: Annotated[bool, Parameter(negative="")] = False,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Tell what a model file holds: family, layout, number formats, size, hash, what is missing or extra.

    Parameters
    ----------
    model
        A file, a diffusers folder, or a name that `daguerre models list` shows.
    verbose
        List every missing, extra and ignored key.
    json_lines
        Print one JSON object.
    """
    from ..checkpoints.identify import identify
    from ..files.reader import open_checkpoint

    checkpoint = open_checkpoint(resolve(model))
    identity = identify(checkpoint)
    dtypes = Counter(str(info.dtype).removeprefix("torch.") for info in checkpoint.tensors.values())
    facts: dict[str, Any] = {
        "path": str(checkpoint.path),
        "family": identity.family,
        "layout": identity.layout,
        "parts": {part.name: _count(checkpoint, identity, part.name) for part in identity.parts},
        "dtypes": dict(dtypes),
        "tensors": len(checkpoint.tensors),
        "bytes": checkpoint.nbytes,
        "sha256": checkpoint.sha256,
        "prediction": identity.prediction,
        "notes": list(identity.notes),
        "missing": list(identity.missing),
        "extra": list(identity.extra),
        "ignored": dict(identity.ignored),
    }
    if json_lines:
        print(json.dumps(facts))
    else:
        _print(facts, verbose=verbose)


def _print(facts: dict[str, Any], *, verbose: bool) -> None:
    from ..families.catalog import FAMILIES

    family = facts["family"]
    title = f"{FAMILIES[family].title} ({family})" if family in FAMILIES else f"a lone {family}"
    print(f"{facts['path']}: {title}, {facts['layout']} layout")
    for name, parameters in facts["parts"].items():
        print(f"  {name:6} {parameters / 1e6:>9,.1f} M parameters")
    print(f"  dtypes {', '.join(f'{name} ({n} tensors)' for name, n in facts['dtypes'].items())}")
    print(f"  size   {facts['bytes'] / 1e6:,.1f} MB in {facts['tensors']:,} tensors")
    print(f"  sha256 {facts['sha256']}")
    for note in facts["notes"]:
        print(f"  {note}")
    for kind in ("missing", "extra", "ignored"):
        _list(kind, facts[kind], verbose=verbose)


def _count(checkpoint: Any, identity: Any, part: str) -> int:
    import torch

    from ..checkpoints.tables import table

    config = identity.configs[part]
    place = next(p for p in identity.parts if p.name == part)
    return sum(torch.Size(source.shape).numel() for source in table(place, config).values())


def _list(kind: str, keys: Any, *, verbose: bool) -> None:
    print(f"  {kind}: {len(keys) or 'nothing'}")
    for key in list(keys)[: None if verbose else SHOWN]:
        print(f"    {key}" + (f" ({keys[key]})" if isinstance(keys, dict) else ""))
    if not verbose and len(keys) > SHOWN:
        print(f"    ... and {len(keys) - SHOWN} more (--verbose lists them)")


def convert(
    source: str,
    target: Path,
    /,
    *,
    layout: Literal["ldm", "diffusers"],
    dtype: Literal["float32", "float16", "bfloat16"] | None = None,
    weights: Literal["auto", "ema"] = "auto",
) -> None:
    """Write a model in another layout; the numbers stay the same to the last bit.

    Parameters
    ----------
    source
        A file, a diffusers folder, or a name that `daguerre models list` shows.
    target
        The new file (ldm) or folder (diffusers); it must not exist yet.
    layout
        ldm: one safetensors file, as most tools read it. diffusers: a folder.
    dtype
        Another number format than the source's.
    weights
        ema: the moving average of the U-Net, where the file has one beside the plain weights.
    """
    if target.exists():
        raise Failure(f"{target} exists already; name another target or remove it", UNUSABLE)
    from ..checkpoints.identify import identify, read_component
    from ..checkpoints.writer import write_diffusers, write_ldm
    from ..files.reader import open_checkpoint
    from ..text.tokenizer import tokenizer_files

    checkpoint = open_checkpoint(resolve(source))
    identity = identify(checkpoint, weights=weights)
    states = {part.name: read_component(checkpoint, identity, part.name) for part in identity.parts}
    if dtype:
        import torch

        number = getattr(torch, dtype)
        states = {name: {k: v.to(number) for k, v in state.items()} for name, state in states.items()}
    if layout == "ldm":
        write_ldm(target, states, identity)
    else:
        write_diffusers(target, states, identity, tokenizer_files=tokenizer_files())
    print(target)
