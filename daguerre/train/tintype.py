"""tintype, the built-in model, from captioned pictures to one file: autoencoder, CLIP, U-Net, in this order.

Every stage resumes from its own folder in the run, so the command can be repeated until all is done.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints.identify import Description
from ..checkpoints.writer import write_ldm
from ..data.packages import fetched
from ..data.pictures import Pictures, load_parquet
from ..families.catalog import FAMILIES
from ..families.loading import load_model
from ..families.model import Model
from ..files.durable import durable_text
from ..generate.drawing import Picture
from ..generate.text_to_image import text_to_image
from ..models.clip import CLIPText, CLIPTextConfig
from ..models.unet import UNet, UNetConfig
from ..models.vae import VAE, VAEConfig
from ..models.vision import CLIPVision, CLIPVisionConfig
from ..runtime.device import pick_device
from . import checkpoint, loop
from .autoencoder import AutoencoderRecipe
from .autoencoder import Objective as AutoencoderObjective
from .config import Loop, Objective, Optimizer
from .contact_sheet import contact_sheet, to_tensor
from .contrastive import ContrastiveRecipe, Towers
from .denoising import DenoisingRecipe
from .distilled_text import distillation, lexicon, text_of
from .illustrations import Illustrations, Lessons, Source, latents, tokenize
from .minilm import MINILM, load_minilm
from .objective import DenoisingObjective
from .phrasebook import phrasebook
from .recipe_file import plain

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The networks of a run."""

    size: int  # pixels of a picture's side
    vae: VAEConfig  # of scale 1; the right one is measured when it has been trained
    text: CLIPTextConfig
    vision: CLIPVisionConfig
    unet: UNetConfig


TINTYPE = Architecture(
    size=128,
    vae=VAEConfig((32, 64, 128, 192), blocks=1, latent_channels=6, scale=1.0, groups=8),
    text=CLIPTextConfig(width=128, layers=4, heads=4),
    vision=CLIPVisionConfig(size=64, patch=8, width=128, layers=4, heads=4, projection=128),
    unet=UNetConfig(
        (128, 192, 192), (0, 1, 1), 128, blocks=1, head_width=32, vector=128, channels_in=6, channels_out=6
    ),
)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long and how fast a stage trains."""

    loop: Loop
    optimizer: Optimizer


AUTOENCODER = Pace(
    loop=Loop(steps=4000, batch=16, ema=0.998), optimizer=Optimizer(learning_rate=1e-3, warmup=100, decay=1000)
)
CLIP = Pace(
    loop=Loop(steps=350, batch=192, ema=0.99, save_every=100),
    optimizer=Optimizer(learning_rate=1e-3, warmup=100, weight_decay=0.1),
)
UNET = Pace(
    loop=Loop(steps=8600, batch=16, ema=0.9985, save_every=500, sample_every=500),
    optimizer=Optimizer(learning_rate=6e-4, warmup=100, decay=3600),
)
ADVERSARY, PLAIN, LESSONS = AutoencoderObjective(), Objective(), Lessons()
COLUMNS = ("caption", "label", "style_words", "subgroup")
PREVIEW = (
    "a red apple", "a cat face", "a penguin", "a rocket", "a sunflower", "a hamburger", "a fire engine", "a guitar",
    "a red heart", "a crab", "a sun", "a strawberry",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as its recipe file tells it: a table of settings for each stage."""

    pictures: Path  # Parquet with the columns image, split, those of COLUMNS and, at will, tags
    run: Path
    seed: int = 0
    device: str | None = None  # None: the best there is
    autoencoder: Pace = AUTOENCODER
    adversary: AutoencoderObjective = ADVERSARY
    clip: Pace = CLIP
    unet: Pace = UNET
    objective: Objective = PLAIN
    lessons: Lessons = LESSONS
    names: Path | None = None  # Parquet of names in other languages: concept, locale, label, tags
    teacher: Path | None = None  # folder for the package of MiniLM, which then teaches what words mean
    towers: Path | None = None  # averaged weights of an earlier stage "clip", as which this one begins
    start: Path | None = None  # a model file as whose networks the autoencoder and the U-Net begin
    dropout: float = 0.1  # share of captions emptied, for guidance (arXiv:2207.12598)
    text_rate: float = 0.0  # of the text encoder's layers while the U-Net learns; 0: they stay. Its tables always do
    architecture: Architecture = TINTYPE


def train(
    plan: Plan, stages: tuple[str, ...], minutes: float, *, allow_changes: bool = False
) -> Iterator[dict[str, Any]]:
    """Yields a log record per step: `stage`, its `steps`, and what the loop tells.

    Raises FileNotFoundError for a stage whose predecessors have not been trained, and as the loop does.
    """
    stop = time.time() + minutes * 60
    for stage in stages:
        if time.time() >= stop:
            return
        torch.manual_seed(plan.seed)
        recipe, pace = RECIPES[stage](plan)
        identity = {**loop.deciding(pace.loop, pace.optimizer), **_identity(plan, stage)}
        work = loop.Stage(loop=pace.loop, optimizer=pace.optimizer, identity=identity, allow_changes=allow_changes)
        for record in loop.train(recipe, work, plan.run / stage, stop):
            yield {"stage": stage, "steps": pace.loop.steps, **record}


def _identity(plan: Plan, stage: str) -> dict[str, Any]:
    """What else decides the weights of a stage."""
    known = {"seed": plan.seed, "pictures": _sha256(plan.pictures)}
    if stage == "autoencoder" and plan.start:
        return {**known, "start": _sha256(plan.start)}
    if stage == "clip" and (plan.teacher or plan.towers):
        files = {name: path and _sha256(path) for name, path in (("names", plan.names), ("towers", plan.towers))}
        return {**known, **files, "teacher": plan.teacher and MINILM.sha256}
    if stage != "unet":
        return known
    files = {name: path and _sha256(path) for name, path in (("names", plan.names), ("start", plan.start))}
    tables = {"lessons": plain(plan.lessons), "objective": plain(plan.objective)}
    return {**known, **files, **tables, "dropout": plan.dropout, "text_rate": plan.text_rate}


def _autoencoder(plan: Plan) -> tuple[loop.Recipe, Pace]:
    vae = VAE(plan.architecture.vae)
    if plan.start:
        vae.load_state_dict(load_model(plan.start, device="cpu", dtype="float32").vae.state_dict())
    vae.to(pick_device(plan.device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    pace, previews = plan.autoencoder, _pictures(plan, "val")
    previews = Pictures(previews.pixels[::8], previews.rows[::8])
    pictures = _pictures(plan, "train")
    return AutoencoderRecipe(vae, pictures, pace.loop.batch, plan.seed, plan.adversary, previews), pace


def _clip(plan: Plan) -> tuple[loop.Recipe, Pace]:
    towers = Towers(_new_text_encoder(plan.architecture.text), CLIPVision(plan.architecture.vision))
    if plan.towers:
        state = load_file(plan.towers)
        towers.load_state_dict({name: state[name] for name in towers.state_dict()})
    pictures, batch, device = _pictures(plan, "train"), plan.clip.loop.batch, pick_device(plan.device)
    if plan.teacher is None:
        return ContrastiveRecipe(towers.to(device), pictures, batch, plan.seed, tokenize), plan.clip
    teacher = load_minilm(fetched(MINILM, plan.teacher))
    book = phrasebook(pictures.rows, plan.names, teacher.words, plan.seed)
    words = lexicon(book, teacher, plan.run / "clip" / "teacher.safetensors", plan.architecture.text.context)
    return distillation(towers.to(device), words, pictures, batch, plan.seed, tokenize), plan.clip


def _unet(plan: Plan) -> tuple[loop.Recipe, Pace]:
    device, vae, text = pick_device(plan.device), trained_vae(plan), trained_text(plan)
    unet = UNet(plan.architecture.unet)
    if plan.start is None:
        _silence_outputs(unet)
    else:
        unet.load_state_dict(load_model(plan.start, device="cpu", dtype="float32").unet.state_dict())
    if plan.unet.loop.compile:
        unet.compile()
    model = assemble(unet.to(device), vae.to(device), text.to(device))
    source = Source(plan.pictures, _sha256(plan.pictures), plan.seed, plan.architecture.size)

    def draw(path: Path) -> None:
        pictures = torch.cat(list(_previews(model, plan.architecture.size, plan.lessons.styles)))
        contact_sheet(pictures, path, columns=len(PREVIEW))

    recipe = DenoisingRecipe(
        trained=nn.ModuleDict({"unet": unet, "text": _awakened(text)}) if plan.text_rate else unet,
        denoise=model.denoiser(),
        batches=Illustrations(
            data=latents(vae, _pictures(plan, "train"), plan.lessons, source, plan.run / "latents.safetensors"),
            text=text,
            batch=plan.unet.loop.batch,
            seed=plan.seed,
            dropout=plan.dropout,
            lessons=plan.lessons,
            names=plan.names,
        ),
        objective=DenoisingObjective(plan.objective, model.prediction, model.levels),
        batch=plan.unet.loop.batch,
        seed=plan.seed,
        draw=draw,
    )
    if not plan.text_rate:
        return recipe, plan.unet
    rates = {"text.*": plan.text_rate, **plan.unet.optimizer.rates}
    return recipe, replace(plan.unet, optimizer=replace(plan.unet.optimizer, rates=rates))


def _awakened(text: CLIPText) -> CLIPText:
    """The encoder, ready to learn but for its tables: words that no caption holds keep their place among the others."""
    text.requires_grad_(True)
    text.token.requires_grad_(False)
    text.position.requires_grad_(False)
    return text


Work = Callable[[Plan], tuple[loop.Recipe, Pace]]
RECIPES: Mapping[str, Work] = {"autoencoder": _autoencoder, "clip": _clip, "unet": _unet}


def _new_text_encoder(config: CLIPTextConfig) -> CLIPText:
    """CLIP's own small initial vectors; PyTorch's are 50 times as long."""
    text = CLIPText(config)
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
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pictures(plan: Plan, split: str) -> Pictures:
    path = plan.pictures.resolve()
    return _decoded(path, path.stat().st_mtime_ns, split, plan.architecture.size)


@cache
def _decoded(path: Path, changed: int, split: str, size: int) -> Pictures:
    log.info("decoding the pictures of split %r in %s", split, path)
    return load_parquet(path, split, size, COLUMNS)


def trained_vae(plan: Plan) -> VAE:
    """The autoencoder of the run, its scale set so that latents of the pictures have unit variance."""
    pictures = _pictures(plan, "train")
    vae = VAE(plan.architecture.vae)
    vae.load_state_dict(_averaged(plan, "autoencoder"))
    some = torch.arange(0, len(pictures), max(1, len(pictures) // 256))
    with torch.no_grad():
        scale = 1 / vae.encode(pictures.batch(some)).std().item()
    vae.config = replace(vae.config, scale=round(scale, 5))
    return vae.eval().requires_grad_(False)


def trained_text(plan: Plan) -> CLIPText:
    """The text encoder of the run."""
    text = CLIPText(plan.architecture.text)
    text.load_state_dict(dict(text_of(_averaged(plan, "clip"))))
    return text.eval().requires_grad_(False)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _averaged(plan: Plan, stage: str) -> dict[str, Tensor]:
    found = checkpoint.newest(plan.run / stage)
    if found is None:
        raise FileNotFoundError(f"{plan.run / stage} holds no checkpoint; train the stage {stage!r} first")
    return found[1]["averaged"]


def assemble(unet: UNet, vae: VAE, text: CLIPText) -> Model:
    """Networks in training as a model that draws."""
    family = FAMILIES["tintype"]
    networks: dict[str, Any] = {"unet": unet, "vae": vae, "text": (text,)}
    return Model(family=family, **networks, prediction="v", name="tintype", device=unet.conv_out.weight.device)


def _previews(model: Model, size: int, styles: Sequence[str]) -> Iterator[Tensor]:
    """Each thing in the first style, then each in one style or another."""
    plain = replace(model.defaults, width=size, height=size, steps=12)
    for row in range(2):
        for i, thing in enumerate(PREVIEW):
            style = styles[(i + row) % len(styles) if row else 0]
            request = replace(plain, prompt=f"{thing}, {style}", seed=i)
            yield from (to_tensor(p.image) for p in text_to_image(model, request) if isinstance(p, Picture))


def export(plan: Plan, path: Path) -> None:
    """Writes the run's averaged weights as one half-precision file in the layout of SD 1.x.

    Beside it, in NAME.taught.tsv, stands what the U-Net was taught: a label, a tab and style words on each line.
    """
    vae, text, averaged = trained_vae(plan), trained_text(plan), _averaged(plan, "unet")
    states = {"unet": averaged, "vae": vae.state_dict(), "text": text.state_dict()}
    if plan.text_rate:
        states |= {name: _part(averaged, f"{name}.") for name in ("unet", "text")}
    halves = {part: {k: v.half().contiguous() for k, v in state.items()} for part, state in states.items()}
    description = Description(
        family="tintype", prediction="v", unet=plan.architecture.unet, vae=vae.config, text=(text.config,)
    )
    write_ldm(path, halves, description)
    rows = [row for row in _pictures(plan, "train").rows if plan.lessons.taught(row)]
    lines = sorted({f"{row['label']}\t{row['style_words']}\n" for row in rows})
    taught = "".join(["# What the model learned to draw: a label, a tab, style words.\n", *lines])
    durable_text(path.with_suffix(".taught.tsv"), taught)
