"""The small networks beside a model, its upscaler and its preview decoder: from pictures to one file each."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.pictures import Pictures, load_parquet
from ..families.loading import load_model
from ..files.durable import durable_write
from ..files.reader import SETTINGS
from ..models.enlarger import Enlarger, EnlargerConfig
from ..models.vae import VAE
from ..runtime.device import pick_device
from . import checkpoint, loop
from .config import Loop, Optimizer
from .preview import PreviewRecipe
from .recipe_file import plain
from .upscaler import Damage, UpscalerRecipe, redrawn

HELD = 48  # held-out pictures that are measured
NETWORK, DAMAGE = EnlargerConfig(), Damage()


@dataclass(frozen=True, kw_only=True)
class Enlarging:
    """A run as its recipe file tells it."""

    recipe: Literal["upscaler", "preview"]
    pictures: Path  # Parquet with the columns image and split
    run: Path
    base: str = "tintype"  # the model whose VAE redraws, or whose latents are decoded
    size: int = 512  # pixels of a picture's side
    limit: int = 0  # training pictures, evenly from the table; 0: all
    seed: int = 0
    device: str | None = None  # None: the best there is
    network: EnlargerConfig = NETWORK
    damage: Damage = DAMAGE
    loop: Loop = Loop()
    optimizer: Optimizer = Optimizer()
    license: str = ""
    description: str = ""


def train(plan: Enlarging, base: Path, stop: float, *, allow_changes: bool = False) -> Iterator[dict[str, Any]]:
    """Yields a log record per step, and at the end the file of the averaged weights, in half precision.

    `base`: where the plan's base is; training ends at the time `stop`.
    """
    device = pick_device(plan.device)
    model = load_model(base, device=plan.device, dtype="float32")
    torch.manual_seed(plan.seed)
    network = Enlarger(plan.network)
    for parameter in network.conv_out.parameters():
        nn.init.zeros_(parameter)  # so that the upscaler begins as the bicubic enlargement
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast(device.type, loop.DTYPES[plan.loop.precision], enabled=plan.loop.precision != "float32"):
        recipe = (_upscaler if plan.recipe == "upscaler" else _preview)(plan, network, model.vae)
    identity = loop.deciding(plan.loop, plan.optimizer)
    identity |= {k: plain(getattr(plan, k)) for k in ("recipe", "size", "limit", "seed", "network", "damage")}
    identity |= {"base": model.sha256, "pictures": plan.pictures.stat().st_size}
    stage = loop.Stage(loop=plan.loop, optimizer=plan.optimizer, identity=identity, allow_changes=allow_changes)
    yield from loop.train(recipe, stage, plan.run, stop)
    yield {"files": [export(plan, model.sha256)]}


def export(plan: Enlarging, base_sha256: str) -> Path:
    """Writes the newest checkpoint's averaged weights as RUN/RECIPE.safetensors, its config in the metadata."""
    found = checkpoint.newest(plan.run)
    assert found is not None  # the loop has just saved one
    notes, parts = found
    path = plan.run / f"{plan.recipe}.safetensors"
    settings = {"enlarger": asdict(plan.network)}
    metadata = {SETTINGS: json.dumps(settings), "format": "pt", "kind": plan.recipe, "steps": str(notes["step"])}
    metadata |= {"base": base_sha256, "license": plan.license, "description": plan.description}
    halves = {name: value.half().contiguous() for name, value in parts["averaged"].items()}
    durable_write(path, lambda target: save_file(halves, target, metadata))
    return path


def _upscaler(plan: Enlarging, network: Enlarger, vae: VAE) -> loop.Recipe:
    scale, noise = plan.network.scale, plan.damage.latent_noise
    pictures, held = _pictures(plan, "train", plan.limit), _pictures(plan, "val", HELD)
    soft = redrawn(vae, pictures, scale, noise, plan.run / "redrawn.safetensors")
    held_soft = redrawn(vae, held, scale, 0.0, plan.run / "redrawn-val.safetensors")
    return UpscalerRecipe(
        network, (pictures.pixels, soft), (held.pixels, held_soft), plan.damage, plan.loop.batch, plan.seed
    )


def _preview(plan: Enlarging, network: Enlarger, vae: VAE) -> loop.Recipe:
    pictures, held = _pictures(plan, "train", plan.limit), _pictures(plan, "val", HELD)
    pairs, apart = ((_latents(vae, p, plan.run / f"latents-{len(p)}.safetensors"), p.pixels) for p in (pictures, held))
    return PreviewRecipe(network, pairs, apart, plan.loop.batch, plan.seed)


def _pictures(plan: Enlarging, split: str, limit: int) -> Pictures:
    found = load_parquet(plan.pictures, split, plan.size)
    step = max(1, len(found) // limit) if limit else 1
    return replace(found, pixels=found.pixels[::step].clone(), rows=found.rows[::step])


@torch.no_grad()
def _latents(vae: VAE, pictures: Pictures, cache: Path) -> Tensor:
    """Scaled latents (N, C, h, w), read from `cache` if it is there."""
    if not cache.exists():
        device = vae.quant.weight.device
        made = [
            vae.encode(pictures.batch(part).to(device)).float().cpu()
            for part in torch.split(torch.arange(len(pictures)), 16)
        ]
        durable_write(cache, lambda target: save_file({"latents": torch.cat(made)}, target))
    return load_file(cache)["latents"]
