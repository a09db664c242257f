"""Toy pictures, networks and recipes: each a real one of its kind, and a step of it takes milliseconds."""

import io
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from PIL import Image, ImageDraw

from daguerre.adapters.config import LoRAConfig
from daguerre.data.config import Captions, Data, Source
from daguerre.data.pictures import Pictures, load_parquet
from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.prediction import Velocity
from daguerre.diffusion.schedule import scaled_linear
from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.models.unet import UNet, UNetConfig
from daguerre.models.vae import VAE, VAEConfig
from daguerre.models.vision import CLIPVision, CLIPVisionConfig
from daguerre.train import loop, runs
from daguerre.train.autoencoder import AutoencoderRecipe
from daguerre.train.autoencoder import Objective as Adversary
from daguerre.train.batch import Batch
from daguerre.train.config import DreamBooth, Inversion, Loop, Objective, Optimizer, Output, Run, Samples
from daguerre.train.contrastive import ContrastiveRecipe, Towers
from daguerre.train.denoising import DenoisingRecipe
from daguerre.train.illustrations import Lessons
from daguerre.train.objective import DenoisingObjective
from daguerre.train.randomness import generator
from daguerre.train.tintype import Architecture, Pace, Plan
from tests.train.line import QUICK

SIZE = 32
COLORS = ("red", "green", "blue", "orange", "purple", "black")
STYLES = ("flat modern", "3d render")
WORDS = (
    "",
    "a",
    "an",
    "of",
    "ball",
    "flat",
    "modern",
    "3d",
    "render",
    "round",
    "toy",
    *COLORS,
    "in",
    "style",
    "picture",
)
TEXT = CLIPTextConfig(width=16, layers=1, heads=2, vocabulary=64, context=12, end_token=63)
VISION = CLIPVisionConfig(size=16, patch=8, width=16, layers=1, heads=2, projection=16)
ARCHITECTURE = Architecture(
    size=SIZE,
    vae=VAEConfig((8, 8, 16, 16), blocks=1, scale=1.0, groups=4),
    text=CLIPTextConfig(width=16, layers=1, heads=2),
    vision=VISION,
    unet=UNetConfig((32, 32), (0, 1), 16, head_width=16, blocks=1, vector=16, groups=8),
)


def png(picture: Image.Image) -> bytes:
    memory = io.BytesIO()
    picture.save(memory, "PNG")
    return memory.getvalue()


def ball(color: str) -> Image.Image:
    """A ball on a transparent ground."""
    picture = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((6, 6, 26, 26), fill=color)
    return picture


def row(color: str, style: str, split: str = "train") -> dict[str, object]:
    return {
        "image": {"bytes": png(ball(color)), "path": f"{color}.png"},
        "caption": f"a {color} ball, {style}",
        "label": "ball",
        "tags": ["round", "toy"],
        "style_words": style,
        "subgroup": "food-fruit",
        "split": split,
    }


def write_parquet(path: Path, rows: list[dict[str, object]] | None = None) -> Path:
    """`rows`, or each ball in each style, and one of them once more for validation."""
    standard = [row(color, style) for style in STYLES for color in COLORS] + [row("red", STYLES[0], "val")]
    table = pyarrow.Table.from_pylist(standard if rows is None else rows)
    pyarrow.parquet.write_table(table, path)
    return path


def plan(folder: Path, **changes: object) -> Plan:
    """A whole run of tintype at toy size."""
    quick = Pace(loop=QUICK.loop, optimizer=QUICK.optimizer)
    standard = Plan(
        pictures=folder / "balls.parquet",
        run=folder / "run",
        autoencoder=quick,
        adversary=Adversary(crop=SIZE, adversary_from=3),
        clip=quick,
        unet=quick,
        lessons=Lessons(styles=STYLES, scenes=0),
        architecture=replace(ARCHITECTURE, size=64),  # the smallest that a request may ask for
    )
    return replace(standard, **changes)


def tokenize(captions: Sequence[str]) -> torch.Tensor:
    """Words to their place in WORDS; 62 starts, 63 ends."""
    rows = [[62, *(WORDS.index(word) for word in caption.replace(",", "").split())][:11] for caption in captions]
    return torch.tensor([ids + [63] * (12 - len(ids)) for ids in rows])


def autoencoder(pictures: Pictures, crop: int = SIZE, adversary_from: int = 3, **more: float) -> AutoencoderRecipe:
    torch.manual_seed(0)
    vae = VAE(ARCHITECTURE.vae).to(memory_format=torch.channels_last)
    objective = Adversary(crop=crop, adversary_from=adversary_from, **more)
    return AutoencoderRecipe(vae, pictures, 4, 0, objective, pictures)


def contrastive(pictures: Pictures) -> ContrastiveRecipe:
    torch.manual_seed(0)
    return ContrastiveRecipe(Towers(CLIPText(TEXT), CLIPVision(VISION)), pictures, 4, 0, tokenize)


class Latents:
    """Batches of random latents, four in a step, with the captions of pictures."""

    def __init__(self, pictures: Pictures):
        self.rows, self.text = pictures.rows, CLIPText(TEXT).requires_grad_(requires_grad=False)
        self.x0 = torch.randn(len(pictures), 4, 4, 4)

    def __call__(self, step: int, part: range) -> Batch:
        index = torch.randint(len(self.rows), (4,), generator=generator(0, "pictures", step))[list(part)]
        captions = [str(self.rows[i]["caption"]) for i in index]
        x0 = self.x0[index]
        return Batch(x0=x0, cond=self.embed(captions), weight=torch.ones(len(x0)), captions=captions)

    def embed(self, captions: Sequence[str]) -> Cond:
        states = self.text(tokenize(captions))
        return Cond(states.last, states.pooled)

    def empty(self, count: int) -> Cond:
        return self.embed([""] * count)


def denoising(pictures: Pictures, **settings: object) -> DenoisingRecipe:
    torch.manual_seed(0)
    unet, levels = UNet(ARCHITECTURE.unet), scaled_linear()

    def draw(path: Path) -> None:
        path.write_text(f"{sum(p.sum().item() for p in unet.parameters())}")

    return DenoisingRecipe(
        trained=unet,
        denoise=Velocity(unet, levels),
        batches=Latents(pictures),
        objective=DenoisingObjective(Objective(**settings), "v", levels),
        batch=4,
        seed=0,
        draw=draw,
    )


class OneBatch:
    """A recipe with the same batch in every step."""

    def __init__(self, recipe: loop.Recipe):
        self.recipe, self.trained = recipe, recipe.trained

    def loss(self, step: int, part: range) -> tuple[torch.Tensor, dict[str, float]]:
        return self.recipe.loss(0, part)

    def sample(self, path: Path) -> None:
        self.recipe.sample(path)


RECIPES = {"autoencoder": autoencoder, "contrastive": contrastive, "denoising": denoising}


def balls(folder: Path) -> Pictures:
    return load_parquet(write_parquet(folder / "balls.parquet"), "train", SIZE)


def picture_folder(folder: Path, count: int = 4) -> Path:
    """Balls of 64 pixels in a folder of their own, with captions in text files."""
    folder.mkdir()
    for color in COLORS[:count]:
        ball(color).resize((64, 64)).save(folder / f"{color}.png")
        (folder / f"{color}.txt").write_text(f"a {color} ball, round, toy")
    return folder


def edits(path: Path, count: int = 4) -> Path:
    """A table of balls before, all black, and after."""
    rows = [
        {
            "image": {"bytes": png(ball(color).resize((64, 64))), "path": f"{color}.png"},
            "before": {"bytes": png(ball("black").resize((64, 64))), "path": f"black-{color}.png"},
            "caption": f"make it {color}",
        }
        for color in COLORS[:count]
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def settings(recipe: str, folder: Path, **changes: object) -> Run:
    """Four steps of a recipe with `base.safetensors` and `pictures` of `folder`, where all that can vary varies."""
    captions = Captions(shuffle=True, tag_dropout=0.3, dropout=0.3)
    data = Data(sources=(Source(path=folder / "pictures"),), size=64, crop="random", flip=True, captions=captions)
    standard = {
        "run": folder / "run",
        "base": str(folder / "base.safetensors"),
        "device": "cpu",
        "data": replace(data, held_out=0.25),
        "loop": Loop(steps=4, batch=2, save_every=2, sample_every=1000, validate_every=2, log_every=1),
        "optimizer": Optimizer(learning_rate=1e-2),
        "samples": Samples(prompts=("a red ball",), steps=1, cfg_scale=1.0),
        "output": Output(precision="float32"),
        "lora": LoRAConfig(rank=2),
        "dreambooth": DreamBooth(prompt="a zwx ball", class_prompt="a ball", class_pictures=2),
        "inversion": Inversion(word="zwx", initializer="ball", templates=("a photo of {}", "{}, round")),
    }
    if recipe == "edit":
        standard["data"] = replace(data, sources=(Source(path=folder / "edits.parquet"),), held_out=0.25)
    return Run(recipe=recipe, **{**standard, **changes})


def train_slowly(run: Run, told: Connection) -> None:
    """A process's work: a run that tells of every step."""
    torch.set_num_threads(1)
    for record in runs.train(run):
        if "loss" in record:
            told.send(record["step"])
