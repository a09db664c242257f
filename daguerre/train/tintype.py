"""tintype, the built-in model, from captioned pictures to one file: autoencoder, CLIP, U-Net, in this order.

Every stage resumes from its own folder in the run, so the command can be repeated until all is done.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.identify import Description
from ..data.pictures import Pictures, load_parquet
from ..families.catalog import FAMILIES
from ..families.model import Model
from ..generate.text_to_image import Picture, text_to_image
from ..models.clip import CLIPText, CLIPTextConfig, CLIPVision, CLIPVisionConfig
from ..models.unet import UNet, UNetConfig
from ..models.vae import VAE, VAEConfig
from ..request import TextToImage
from ..text.tokenizer import END, START, Tokenizer
from . import checkpoint, loop
from .autoencoder import AutoencoderRecipe
from .autoencoder import Objective as AutoencoderObjective
from .contact_sheet import contact_sheet, to_tensor
from .contrastive import ContrastiveRecipe, Towers
from .denoising import DenoisingRecipe, Latents
from .loop import Settings

log = logging.getLogger(__name__)

VAE_CONFIG = VAEConfig((32, 64, 128, 192), blocks=1, latent_channels=6, scale=1.0, groups=8)
TEXT_CONFIG = CLIPTextConfig(width=128, layers=4, heads=4)
VISION_CONFIG = CLIPVisionConfig(size=64, patch=8, width=128, layers=4, heads=4, projection=128)
UNET_CONFIG = UNetConfig(
    (128, 192, 192), (0, 1, 1), 128, blocks=1, head_width=32, channels_in=6, channels_out=6
)
STYLES = ("3d render", "glossy gradient", "flat modern", "flat vector sticker", "soft gradient cartoon")
# The parts of the emoji table whose drawings are single things.
SUBGROUPS = (
    "animal-", "plant-", "food-", "drink", "transport-", "sky-weather", "face-smiling", "heart", "sport",
    "musical-instrument", "clothing", "tool", "award-medal", "light-video", "place-building",
)  # fmt: skip
PREVIEW = (
    "a red apple", "a cat face", "a penguin", "a rocket", "a sunflower", "a hamburger", "a fire engine", "a guitar",
    "a red heart", "a crab", "a sun", "a running shoe",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    pictures: Path  # Parquet with columns image, caption, label, tags, style_words, subgroup, split
    run: Path
    seed: int = 0
    autoencoder: Settings = Settings(steps=6000, batch=16, learning_rate=1e-3, ema=0.998, save_every=250)
    objective: AutoencoderObjective = AutoencoderObjective()
    clip: Settings = Settings(steps=500, batch=192, learning_rate=1e-3, ema=0.99, weight_decay=0.1, save_every=100)
    unet: Settings = Settings(steps=20_000, batch=16, learning_rate=6e-4, ema=0.998)


def train(plan: Plan, stages: tuple[str, ...], minutes: float) -> Iterator[dict[str, Any]]:
    """Yields a log record per step: `stage` and what the loop tells."""
    stop = time.time() + minutes * 60
    for stage in stages:
        torch.manual_seed(plan.seed)
        recipe, settings = RECIPES[stage](plan)
        for record in loop.train(recipe, settings, plan.run / stage, stop):
            yield {"stage": stage, **record}


def _autoencoder(plan: Plan) -> tuple[loop.Recipe, Settings]:
    vae = VAE(VAE_CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    s, previews = plan.autoencoder, _pictures(plan.pictures, "val")
    previews = Pictures(previews.pixels[::8], previews.rows[::8])
    pictures = _pictures(plan.pictures, "train")
    return AutoencoderRecipe(vae, pictures, s.batch, plan.seed, plan.objective, previews), s


def _clip(plan: Plan) -> tuple[loop.Recipe, Settings]:
    towers = Towers(new_text_encoder(), CLIPVision(VISION_CONFIG))
    pictures = _pictures(plan.pictures, "train")
    return ContrastiveRecipe(towers, pictures, plan.clip.batch, plan.seed, tokenize), plan.clip


def _unet(plan: Plan) -> tuple[loop.Recipe, Settings]:
    vae, text = trained_vae(plan), trained_text(plan)
    unet = UNet(UNET_CONFIG).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _silence_outputs(unet)
    model = assemble(unet, vae, text)

    def draw(averaged: UNet, path: Path) -> None:
        contact_sheet(torch.cat(list(_previews(assemble(averaged, vae, text)))), path, columns=len(PREVIEW))

    recipe = DenoisingRecipe(unet, _latents(plan, vae), model.levels, _embedder(text), draw)
    recipe.batch, recipe.seed = plan.unet.batch, plan.seed
    return recipe, plan.unet


RECIPES = {"autoencoder": _autoencoder, "clip": _clip, "unet": _unet}


def new_text_encoder() -> CLIPText:
    text = CLIPText(TEXT_CONFIG)
    nn.init.normal_(text.token.weight, std=0.02)
    nn.init.normal_(text.position.weight, std=0.01)
    return text


def _silence_outputs(unet: UNet) -> None:
    """Starts every residual branch and the output at zero (arXiv:2105.05233): the network begins as the identity."""
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out", "conv_out")):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


@cache
def _pictures(path: Path, split: str) -> Pictures:
    log.info("decoding the pictures of split %r in %s", split, path)
    return load_parquet(path, split)


def tokenize(captions: list[str]) -> Tensor:
    tokenizer, rows = Tokenizer(), []
    for caption in captions:
        ids = [START, *tokenizer.encode(caption)[:75], END]
        rows.append(ids + [END] * (77 - len(ids)))
    return torch.tensor(rows)


def trained_vae(plan: Plan) -> VAE:
    """The autoencoder of the run, its scale set so that latents of the pictures have unit variance."""
    pictures = _pictures(plan.pictures, "train")
    vae = VAE(VAE_CONFIG)
    vae.load_state_dict(_averaged(plan, "autoencoder"))
    some = torch.arange(0, len(pictures), max(1, len(pictures) // 256))
    with torch.no_grad():
        scale = 1 / vae.encode(pictures.batch(some)).std().item()
    vae.config = replace(VAE_CONFIG, scale=round(scale, 5))
    return vae.eval().requires_grad_(False)


def trained_text(plan: Plan) -> CLIPText:
    towers = Towers(CLIPText(TEXT_CONFIG), CLIPVision(VISION_CONFIG))
    towers.load_state_dict(_averaged(plan, "clip"))
    return towers.text.eval().requires_grad_(False)


def _averaged(plan: Plan, stage: str) -> dict[str, Tensor]:
    found = checkpoint.newest(plan.run / stage)
    if found is None:
        raise FileNotFoundError(f"{plan.run / stage} holds no checkpoint; train the stage {stage!r} first")
    return found[1]["averaged"]


def chosen(row: Mapping[str, Any]) -> bool:
    """Whether the U-Net learns this picture: a single thing with a short name, in one of the styles."""
    kind = row["subgroup"] or ""
    return row["style_words"] in STYLES and kind.startswith(SUBGROUPS) and len(row["label"].split()) <= 2


def _latents(plan: Plan, vae: VAE) -> Latents:
    pictures = _pictures(plan.pictures, "train")
    index = [i for i, row in enumerate(pictures.rows) if chosen(row)]
    names = len({pictures.rows[i]["label"] for i in index})
    log.info("%d pictures of %d things in %d styles", len(index), names, len(STYLES))
    with torch.no_grad():
        scaled = torch.cat([vae.encode(pictures.batch(part)) for part in torch.tensor(index).split(32)])
    return Latents(scaled, [pictures.rows[i] for i in index])


def _embedder(text: CLIPText) -> Any:
    @torch.no_grad()
    def embed(captions: list[str]) -> Tensor:
        return text(tokenize(captions)).last

    return embed


def assemble(unet: UNet, vae: VAE, text: CLIPText) -> Model:
    family = FAMILIES["tintype"]
    return Model(family=family, unet=unet, vae=vae, text=(text,), prediction="v", name="tintype")


def _previews(model: Model) -> Iterator[Tensor]:
    for row in range(2):
        for i, thing in enumerate(PREVIEW):
            request = replace(model.defaults, steps=12, prompt=f"{thing}, {STYLES[(i + row) % 5 if row else 0]}", seed=i)
            yield from (to_tensor(p.image) for p in text_to_image(model, request) if isinstance(p, Picture))


def export(plan: Plan, path: Path) -> None:
    """Writes the run's averaged weights as one half-precision file in the layout of SD 1.x."""
    vae, text = trained_vae(plan), trained_text(plan)
    states = {"unet": _averaged(plan, "unet"), "vae": vae.state_dict(), "text": text.state_dict()}
    halves = {part: {k: v.half().contiguous() for k, v in state.items()} for part, state in states.items()}
    description = Description(
        family="tintype", prediction="v", unet=UNET_CONFIG, vae=vae.config, text=(TEXT_CONFIG,)
    )
    from ..checkpoints.writer import write_ldm

    write_ldm(path, halves, description)
