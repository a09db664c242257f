"""What tintype's U-Net learns from: latents of captioned illustrations and of scenes composed of them."""

import functools
import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..data.languages import foreign, translations
from ..data.phrases import pick
from ..data.pictures import Pictures
from ..data.scenes import Composer, Scene, load_cutouts
from ..diffusion.denoiser import Cond
from ..files.durable import durable_write
from ..models.clip import CLIPText
from ..models.vae import VAE
from ..request import RequestError
from ..text.tokenizer import END, START, Tokenizer
from .batch import Batch
from .randomness import generator

log = logging.getLogger(__name__)
CHUNK = 32  # pictures that are encoded at once
SIDED = "left", "right", "clock", "hundred", "arrow", "book", "symbol", "zzz"  # a mirror would make these wrong
# Names of two words that people type.
TWO_WORDS = (
    "Christmas tree", "american football", "angry face", "baby chick", "bell pepper", "birthday cake", "black cat",
    "black heart", "blue book", "blue heart", "brown mushroom", "bubble tea", "cat face", "cherry blossom",
    "chocolate bar", "closed book", "closed umbrella", "clown face", "computer mouse", "cow face", "crescent moon",
    "crying face", "crystal ball", "delivery truck", "desert island", "dog face", "dragon face", "fire engine",
    "flying saucer", "french fries", "full moon", "glowing star", "green apple", "green book", "green heart",
    "grinning face", "grinning cat", "high-speed train", "honey pot", "hot beverage", "hot dog",
    "hot pepper", "ice cream", "kick scooter", "kiwi fruit", "lady beetle", "light bulb", "magic wand", "maple leaf",
    "monkey face", "mobile phone", "motor boat", "musical note", "old man", "old woman", "open book", "orange heart",
    "palm tree", "paw prints", "pig face", "pink heart", "polar bear", "police car", "potted plant", "purple heart",
    "rabbit face", "racing car", "red apple", "red heart", "ringed planet", "roller coaster", "running shoe",
    "sleeping face", "smiling face", "snow-capped mountain", "soccer ball", "spiral shell", "spouting whale",
    "teddy bear", "tiger face", "top hat", "tropical fish", "video game", "water pistol", "white flower",
    "white heart", "wine glass", "wrapped gift", "yellow heart",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """Which pictures the U-Net learns, and what is made of them."""

    styles: tuple[str, ...] = (
        "3d render", "glossy gradient", "flat modern", "soft gradient cartoon", "flat vector sticker"
    )  # fmt: skip
    # Beginnings of the subgroups of the emoji table that are left out: people in detail, hands, clocks, paperwork.
    without: tuple[str, ...] = (
        "person-", "family", "hand", "flag", "body-parts", "time", "award-medal", "place-map", "mail", "office",
        "sound", "emotion", "medical", "money", "lock",
    )  # fmt: skip
    words: int = 1  # of the longest name
    names: tuple[str, ...] = TWO_WORDS  # longer ones that are learned besides
    mirrored: bool = True  # each picture a second time, mirrored, unless its name tells left from right
    scenes: int = 12_000  # composed scenes
    share: float = 0.25  # of scenes among the pictures of a batch
    foreign: float = 0.1  # share of captions in other languages, where a table of names is given
    workers: int = 0  # processes that compose scenes; 0: this one

    def taught(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the table is among these pictures."""
        kind = row["subgroup"] or ""
        named = row["label"] in self.names or len(str(row["label"]).split()) <= self.words
        return row["style_words"] in self.styles and bool(kind) and not kind.startswith(self.without) and named


@dataclass(frozen=True)
class Source:
    """Where pictures and cut-outs come from: a Parquet file, its SHA-256, the seed of the scenes, a picture's side."""

    path: Path
    sha256: str
    seed: int
    size: int


@dataclass(frozen=True)
class Latents:
    """`scaled`: float16 (N, C, H, W), unit variance; `rows`: what is known of each; from `plain` on, scenes."""

    scaled: Tensor
    rows: Sequence[Mapping[str, Any]]
    plain: int


@dataclass(frozen=True, kw_only=True)
class Illustrations:
    """Batches of captioned latents, in captions of many forms."""

    data: Latents
    text: CLIPText
    batch: int
    seed: int
    dropout: float
    lessons: Lessons
    names: Path | None = None  # table of names in other languages

    def __call__(self, step: int, part: range) -> Batch:
        """The places `part` of a step's batch, a pure function of the step and the places."""
        picked = self._picked(generator(self.seed, "pictures", step))[part.start : part.stop]
        captions = [self._caption(self.data.rows[row], step, i) for row, i in zip(picked, part, strict=True)]
        device = self.text.token.weight.device
        x0 = self.data.scaled[picked].to(device).float()
        cond = self._embed(captions)
        return Batch(x0=x0, cond=cond, weight=torch.ones(len(x0), device=device), captions=captions)

    def empty(self, count: int) -> Cond:
        """No caption, `count` times."""
        with torch.no_grad():
            return self._embed([""] * count)

    def _picked(self, rng: torch.Generator) -> list[int]:
        plain, scenes = self.data.plain, len(self.data.rows) - self.data.plain
        pictures = torch.randint(plain, (self.batch,), generator=rng)
        if not scenes:
            return pictures.tolist()
        composed = plain + torch.randint(scenes, (self.batch,), generator=rng)
        return torch.where(torch.rand(self.batch, generator=rng) < self.lessons.share, composed, pictures).tolist()

    def _caption(self, row: Mapping[str, Any], step: int, place: int) -> str:
        rng = generator(self.seed, "caption", step, place)
        dropped, abroad = torch.rand(2, generator=rng).tolist()
        if dropped < self.dropout:
            return ""
        if "scene" in row:
            return str(row["scene"])
        if self.names and abroad < self.lessons.foreign:
            names = translations(self.names).get(str(row.get("concept")), ())
            if said := foreign(names, str(row["style_words"]), Random(rng.initial_seed())):
                return said
        return pick(row, rng)

    def _embed(self, captions: list[str]) -> Cond:
        states = self.text(tokenize(captions).to(self.text.token.weight.device))
        return Cond(states.last, states.pooled)


def tokenize(captions: list[str]) -> Tensor:
    """Token ids (B, 77) of captions, the ends of long ones cut off."""
    tokenizer, rows = Tokenizer(), []
    for caption in captions:
        ids = [START, *tokenizer.encode(caption)[:75], END]
        rows.append(ids + [END] * (77 - len(ids)))
    return torch.tensor(rows)


def latents(vae: VAE, pictures: Pictures, lessons: Lessons, source: Source, kept: Path) -> Latents:
    """Latents of the taught pictures of a table, of their mirror images and of scenes composed of them.

    What has been computed before lies in the file `kept`. Raises RequestError if no picture is taught.
    """
    index = [i for i, row in enumerate(pictures.rows) if lessons.taught(row)]
    if not index:
        raise RequestError(f"{source.path}: no training picture is in the styles {', '.join(lessons.styles)}")
    turned = [i for i in index if lessons.mirrored and not _sided(pictures.rows[i])]
    rows = [pictures.rows[i] for i in (*index, *turned)]
    names = len({row["label"] for row in rows})
    log.info("%d pictures of %d things, %d mirrored, %d scenes", len(index), names, len(turned), lessons.scenes)
    key = _key(vae, lessons, source)
    if (found := _kept(kept, key)) is None:
        pixels = _pixels(pictures, index, turned, lessons, source)
        parts, captions = zip(*((_encoded(vae, part), words) for part, words in pixels), strict=True)
        found = torch.cat(parts), [caption for words in captions for caption in words]
        _keep(kept, key, *found)
    scaled, captions_of_scenes = found
    return Latents(scaled, [*rows, *({"scene": caption} for caption in captions_of_scenes)], len(rows))


def _pixels(
    pictures: Pictures, index: list[int], turned: list[int], lessons: Lessons, source: Source
) -> Iterator[tuple[Tensor, list[str]]]:
    """Pictures in [-1, 1] by the chunk, and the captions of those that are scenes."""
    for chunk in _chunks(index):
        yield pictures.batch(torch.tensor(chunk)), []
    for chunk in _chunks(turned):
        yield pictures.batch(torch.tensor(chunk)).flip(-1), []
    for scenes in _scenes(lessons, source):
        pixels = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
        yield pixels.float().div_(127.5).sub_(1), [scene.caption for scene in scenes]


def _scenes(lessons: Lessons, source: Source) -> Iterator[list[Scene]]:
    work = functools.partial(_composed, source, lessons.styles)
    chunks = _chunks(list(range(lessons.scenes)))
    if not lessons.workers:
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(lessons.workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, chunks)


def _composed(source: Source, styles: tuple[str, ...], numbers: list[int]) -> list[Scene]:
    composer = _composer(source, styles)
    return [composer.scene(number) for number in numbers]


@functools.cache
def _composer(source: Source, styles: tuple[str, ...]) -> Composer:
    cutouts = [cutout for cutout in load_cutouts(source.path, source.size) if cutout.style in styles]
    return Composer(cutouts, source.seed, source.size)


@torch.no_grad()
def _encoded(vae: VAE, pixels: Tensor) -> Tensor:
    return vae.encode(pixels.to(vae.quant.weight.device)).half().cpu()


def _key(vae: VAE, lessons: Lessons, source: Source) -> str:
    """What decides the latents, as one hash."""
    weights = hashlib.sha256(b"".join(v.detach().cpu().numpy().tobytes() for v in vae.state_dict().values()))
    named = [repr(replace(lessons, share=0, foreign=0, workers=0)), source.sha256, str(source.seed)]
    return hashlib.sha256("\n".join([weights.hexdigest(), *named]).encode()).hexdigest()


def _kept(path: Path, key: str) -> tuple[Tensor, list[str]] | None:
    if not path.is_file():
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        known = file.metadata()
        if known["key"] != key:
            return None
        return file.get_tensor("latents"), json.loads(known["captions"])


def _keep(path: Path, key: str, scaled: Tensor, captions: list[str]) -> None:
    known = {"key": key, "captions": json.dumps(captions)}
    path.parent.mkdir(parents=True, exist_ok=True)
    durable_write(path, lambda target: save_file({"latents": scaled}, target, known))


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(numbers), CHUNK):
        yield numbers[first : first + CHUNK]


def _sided(row: Mapping[str, Any]) -> bool:
    name = str(row["label"]).lower()
    return any(word in name for word in SIDED)
