"""`daguerre checkpoint`: what a model file holds, the same model in other forms, and one model of several."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .exit import UNUSABLE, Failure
from .kinds import Json, Switch
from .models import resolve

if TYPE_CHECKING:
    from ..checkpoints.merge import Components, Opened

Layout = Literal["ldm", "diffusers"]
Number = Literal["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
SHOWN = 8  # keys listed of each kind before "and N more"


def inspect(model: str, /, *, verbose: Switch = False, json_lines: Json = False) -> None:
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
        "recipe": checkpoint.metadata.get("sd_merge_recipe"),
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
    if facts["recipe"]:
        print(f"  merged {facts['recipe'][:400]}")
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
    layout: Layout,
    dtype: Number | None = None,
    weights: Literal["auto", "ema"] = "auto",
    vae: str | None = None,
) -> None:
    """Write a model in another layout; without --dtype the numbers stay the same to the last bit.

    Parameters
    ----------
    source
        A file, a diffusers folder, or a name that `daguerre models list` shows.
    target
        The new file (ldm) or folder (diffusers); it must not exist yet.
    layout
        ldm: one safetensors file, as most tools read it. diffusers: a folder.
    dtype
        Another number format than the source's; of eight bits for matrices and convolutions only.
    weights
        ema: the moving average of the U-Net, where the file has one beside the plain weights.
    vae
        A VAE to build in, in place of the model's own.
    """
    _rewrite(source, target, layout, dtype, weights, vae)


def prune(
    source: str, target: Path, /, *, dtype: Number | None = None, weights: Literal["auto", "ema"] = "auto"
) -> None:
    """Write only what is needed to draw: no moving average beside the weights, no noise schedule, no unknown tensors.

    Parameters
    ----------
    source
        A file, a diffusers folder, or a name that `daguerre models list` shows.
    target
        The new file; it must not exist yet.
    dtype
        Another number format than the source's; float16 halves most files.
    weights
        ema: keep the moving average of the U-Net and drop its plain weights, instead of the other way round.
    """
    _rewrite(source, target, "ldm", dtype, weights, None)


def merge(
    target: Path,
    *models: str,
    method: Literal["weighted", "difference", "slerp", "ties", "dare"] = "weighted",
    ratio: float = 0.5,
    blocks: str = "",
    density: float = 0.5,
    seed: int = 0,
    vae: str | None = None,
    layout: Layout = "ldm",
    dtype: Number | None = None,
) -> None:
    """Make one model of several of a family; needs the memory of a few tensors. The file tells its recipe.

    Parameters
    ----------
    target
        The new file (ldm) or folder (diffusers); it must not exist yet.
    models
        A B, or A B C: files, diffusers folders, or names that `daguerre models list` shows.
    method
        weighted: (1 - ratio) A + ratio B. difference: A + ratio (B - C). slerp: from A to B along an arc.
        ties, dare: what all others learned since A, thinned out before it is added.
    ratio
        How much of the others.
    blocks
        Ratios of parts of the U-Net: "IN04=0.3,OUT05=1", or all numbers in order (25 for SD 1.x; BASE before them).
    density
        For ties and dare, the share of each change that is kept.
    seed
        For dare, of what is kept.
    vae
        A VAE to build in, in place of A's.
    layout
        ldm: one safetensors file, as most tools read it. diffusers: a folder.
    dtype
        Another number format than A's.
    """
    _refuse_existing(target)
    from ..checkpoints.merge import Merge, MergeError, Opened, parse_blocks
    from ..checkpoints.merge import merge as merged

    if not models:
        raise MergeError("merge: name the models")
    opened = [Opened.of(resolve(model)) for model in models]
    own = parse_blocks(blocks, opened[0].identity.unet) if blocks else {}
    how = Merge(method=method, ratio=ratio, blocks=own, density=density, seed=seed)
    components, noted = merged(how, opened)
    _write(target, opened[0], components, layout, dtype, vae, noted)


def _rewrite(
    source: str, target: Path, layout: Layout, dtype: Number | None, weights: Literal["auto", "ema"], vae: str | None
) -> None:
    _refuse_existing(target)
    from ..checkpoints.merge import Opened

    opened = Opened.of(resolve(source), weights)
    kept = {k: v for k, v in opened.checkpoint.metadata.items() if k.startswith("sd_merge")}
    _write(target, opened, opened.components(), layout, dtype, vae, kept)


def _write(
    target: Path,
    model: "Opened",
    components: "Components",
    layout: Layout,
    dtype: Number | None,
    vae: str | None,
    noted: Mapping[str, str],
) -> None:
    from ..checkpoints.convert import converted, with_vae
    from ..checkpoints.identify import Description
    from ..checkpoints.merge import Opened
    from ..checkpoints.writer import write_diffusers, write_ldm
    from ..text.tokenizer import tokenizer_files

    description: Description = model.identity
    if vae is not None:
        components, description = with_vae(model, components, Opened.of(resolve(vae)))
    if dtype is not None:
        components = converted(components, dtype)
    if layout == "ldm":
        write_ldm(target, components, description, noted)
    else:
        write_diffusers(target, components, description, tokenizer_files=tokenizer_files())
    print(target)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise Failure(f"{target} exists already; name another target or remove it", UNUSABLE)
