"""Training eyes for a text encoder that has none: a small tower that puts pictures where their names are.

The text encoder stays as it is (as in arXiv:2111.07991, with the sides exchanged). Every picture is compared with
all names, with its name in every style and in every color.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.colors import COLORS, PAINTS, hidden_on, repaint
from ..data.cutouts import CLEAR, Cutout, load_cutouts, noun_of
from ..data.phrases import with_article
from ..data.pictures import Pictures, load_parquet
from ..files.durable import durable_write
from ..files.reader import SETTINGS
from ..generate.clip import CLIP, load_tower, text_alone
from ..generate.interrogate import joined
from ..models.vision import ConvVision, ConvVisionConfig
from ..runtime.device import pick_device
from . import checkpoint, loop
from .config import Loop, Optimizer
from .contact_sheet import contact_sheet
from .randomness import generator
from .recipe_file import plain

NETWORK = ConvVisionConfig()
NONE = -1  # nothing is known
LARGEST = 200.0  # scale of cosines


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """A run as its recipe file tells it."""

    recipe: Literal["vision"]
    pictures: Path  # Parquet as `daguerre data build illustrations` makes it
    run: Path
    base: str = "tintype"  # whose text encoder names the pictures
    start: Path | None = None  # a tower to begin from, such as one for an earlier text encoder
    held: tuple[str, ...] = ("val", "pair_holdout", "concept_holdout")  # splits that nothing is learned from
    painted: int = 8000  # drawings on grounds of many colors, most of them repainted
    painted_share: float = 0.4  # of a batch
    seed: int = 0
    device: str | None = None
    network: ConvVisionConfig = NETWORK
    loop: Loop = Loop()
    optimizer: Optimizer = Optimizer()
    license: str = ""
    description: str = ""


@dataclass(frozen=True)
class Seen:
    """Pictures, uint8 (N, 3, S, S), and places of what is known of each, NONE for nothing: all (N,)."""

    pixels: Tensor
    names: Tensor
    styles: Tensor  # of Words.styles
    colors: Tensor  # of Words.colors; 0: no single color
    nouns: Tensor  # names without the color


@dataclass(frozen=True)
class Words:
    """Unit vectors of all that pictures are compared with: M names, of which the first are subjects."""

    names: Sequence[str]
    styles: Sequence[str]  # "" first: no style
    colors: Sequence[str]  # "" first: no color
    subjects: int
    plain: Tensor  # (M, P), "a cat"
    styled: Tensor  # (M, styles, P), "a cat, 3d render"
    colored: Tensor  # (subjects, colors, P), "a red cat"


class Tower(nn.Module):
    """A vision tower and the scale of its cosines, which is learned too.

    It begins above CLIP's own 1 / 0.07: a text encoder that is done puts names near one another, and no picture could
    tell thousands of them apart by a smaller one.
    """

    def __init__(self, vision: ConvVision, scale: float = 50.0):
        super().__init__()
        self.vision = vision
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    @property
    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=float(np.log(LARGEST))).exp()


class VisionRecipe:
    """The loop's recipe; `seen` are plain and painted pictures, `held` those of splits that are not learned from."""

    def __init__(self, tower: Tower, seen: tuple[Seen, Seen], held: Mapping[str, Seen], words: Words, plan: Seeing):
        self.trained, self.seen, self.held, self.words, self.plan = tower, seen, held, words, plan

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropies of the name among all, the style and the color among those of the name."""
        rng, count = generator(self.plan.seed, "pictures", step), self.plan.loop.batch
        painted = round(count * self.plan.painted_share) if len(self.seen[1].names) else 0
        index = [torch.randint(len(s.names), (n,), generator=rng) for s, n in self._shares(count - painted, painted)]
        known = [torch.cat([getattr(s, k)[i] for s, i in zip(self.seen, index, strict=False)])[part.start : part.stop]
                 for k in ("pixels", "names", "styles", "colors", "nouns")]  # fmt: skip
        device = self.trained.log_scale.device
        pixels, names, styles, colors, nouns = (k.to(device) for k in known)
        x = varied(pixels.float().div_(127.5).sub_(1), generator(self.plan.seed, "variation", step, part.start))
        x = x.to(memory_format=torch.channels_last)
        v, w = F.normalize(self.trained.vision(x).float(), dim=-1) * self.trained.scale, self.words
        losses = {
            "name": F.cross_entropy(v @ w.plain.T, names),
            "style": F.cross_entropy(torch.einsum("bp,bsp->bs", v, w.styled[names]), styles, ignore_index=NONE),
            "color": F.cross_entropy(
                torch.einsum("bp,bcp->bc", v, w.colored[nouns.clamp(0, w.subjects - 1)]), colors, ignore_index=NONE
            ),
        }
        known_ones = [loss for loss in losses.values() if loss.isfinite()]  # of no known style there is no mean
        return torch.stack(known_ones).sum(), {name: loss.item() for name, loss in losses.items() if loss.isfinite()}

    def _shares(self, pictures: int, painted: int) -> Iterator[tuple[Seen, int]]:
        yield self.seen[0], pictures
        if painted:
            yield self.seen[1], painted

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Shares of held-out pictures whose name is first, or among the first five, and whose style is right."""
        found = dict[str, float]()
        for split, seen in self.held.items():
            found |= {f"{split} {what}": share for what, share in self._right(seen).items()}
        return found

    def _right(self, seen: Seen) -> dict[str, float]:
        w, device = self.words, self.trained.log_scale.device
        pixels = seen.pixels.float().div_(127.5).sub_(1).to(device)
        v = torch.cat([F.normalize(self.trained.vision(x).float(), dim=-1) for x in torch.split(pixels, 64)])
        named = seen.names.to(device)
        best = (v @ w.plain.T).topk(min(5, len(w.names))).indices == named[:, None]
        found = {"top 1": best[:, 0].float().mean().item(), "top 5": best.any(dim=1).float().mean().item()}
        kinds = ("style", w.styled, seen.styles, named), ("color", w.colored, seen.colors, seen.nouns.to(device))
        for kind, vectors, right, rows in kinds:
            known = (right > 0).to(device)
            if known.any():
                told = torch.einsum("bp,bsp->bs", v[known], vectors[rows[known], 1:]).argmax(dim=1) + 1
                found[kind] = (told == right.to(device)[known]).float().mean().item()
        return found

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Of held-out pictures, the eight nearest to each of eight names, a row each."""
        seen = next(iter(self.held.values()))
        pixels = seen.pixels.float().div_(127.5).sub_(1).to(self.trained.log_scale.device)
        v = F.normalize(self.trained.vision(pixels).float(), dim=-1)
        rows = (self.words.plain[seen.names[:8].to(v.device)] @ v.T).topk(min(8, len(v))).indices
        contact_sheet(pixels[rows.flatten()].cpu(), path, columns=rows.shape[1])


def varied(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1], some mirrored, moved, of another size, darker or with noise."""
    draw = torch.rand(len(pixels), 6, generator=rng).to(pixels.device)
    scale = 0.9 + 0.5 * draw[:, 0]  # of the view, so that the drawing becomes smaller where it is above 1
    theta = torch.zeros(len(pixels), 2, 3, device=pixels.device)
    theta[:, 0, 0], theta[:, 1, 1] = scale * torch.where(draw[:, 1] < 0.5, -1.0, 1.0), scale
    theta[:, :, 2] = (draw[:, 2:4] - 0.5) * 0.3
    moved = F.grid_sample(pixels, F.affine_grid(theta, list(pixels.shape), align_corners=False), "bilinear", "border",
                          align_corners=False)  # fmt: skip
    contrast = (0.8 + 0.3 * draw[:, 4])[:, None, None, None]
    noise = torch.randn(pixels.shape, generator=rng).to(pixels.device) * (0.08 * draw[:, 5])[:, None, None, None]
    return 1 - (1 - moved) * contrast + noise


def train(plan: Seeing, base: Path, stop: float, *, allow_changes: bool = False) -> Iterator[dict[str, Any]]:
    """Yields a log record per step, and at the end the file of the averaged weights, in half precision.

    `base`: where the plan's base is; training ends at the time `stop`.
    """
    device = pick_device(plan.device)
    clip = text_alone(base, device=plan.device)
    network = replace(plan.network, projection=clip.text.config.projection or clip.text.config.width)
    torch.manual_seed(plan.seed)
    tower = Tower(ConvVision(network))
    if plan.start:
        begun, told = load_tower(plan.start)
        if begun.config != network:
            raise ValueError(f"{plan.start} is {begun.config}; this run trains {network}")
        tower = Tower(begun.requires_grad_(True), told["scale"])
    rows = load_parquet(plan.pictures, "train", network.size, ("label", "style_words", "subgroup"))
    held = {split: load_parquet(plan.pictures, split, network.size) for split in plan.held}
    cutouts = load_cutouts(plan.pictures, network.size) if plan.painted else []
    words = words_of(clip, [rows, *held.values()], [c.noun for c in cutouts])
    seen = seen_of(rows, words), painted(cutouts, words, plan)
    tower.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = VisionRecipe(tower, seen, {split: seen_of(p, words) for split, p in held.items()}, words, plan)
    identity = loop.deciding(plan.loop, plan.optimizer)
    identity |= {k: plain(getattr(plan, k)) for k in ("seed", "network", "painted", "painted_share")}
    identity |= {"text": clip.sha256(), "pictures": plan.pictures.stat().st_size}
    stage = loop.Stage(loop=plan.loop, optimizer=plan.optimizer, identity=identity, allow_changes=allow_changes)
    yield from loop.train(recipe, stage, plan.run, stop)
    yield {"files": [export(plan, network, clip.sha256(), words)]}


def words_of(clip: CLIP, tables: Sequence[Pictures], nouns: Sequence[str]) -> Words:
    """All names of the tables, those of emoji first, each plain, in every style and in every color."""
    rows = [row for table in tables for row in table.rows]
    subjects = sorted({str(row["label"]) for row in rows if row["subgroup"]} | set(nouns))
    names = [*subjects, *sorted({str(row["label"]) for row in rows} - set(subjects))]
    styles = ["", *sorted({str(row["style_words"]) for row in rows if row["style_words"]})]
    colors = ["", *PAINTS, "black", "white", "gray"]
    said = [with_article(name) for name in names]
    styled = [joined(name, "style", style) if style else name for name in said for style in styles]
    colored = [joined(name, "color", color) if color else name for name in said[: len(subjects)] for color in colors]

    def read(phrases: list[str], count: int) -> Tensor:
        return clip.of_phrases(phrases).view(len(phrases) // count, count, -1).to(clip.text.token.weight.device)

    plain = read(said, 1)[:, 0]
    return Words(names, styles, colors, len(subjects), plain, read(styled, len(styles)), read(colored, len(colors)))


def seen_of(pictures: Pictures, words: Words) -> Seen:
    """A table's pictures with their names and styles, and with their colors where the names tell them."""
    names, styles = ({word: i for i, word in enumerate(column)} for column in (words.names, words.styles))
    rows, colors, nouns = pictures.rows, list[int](), list[int]()
    for row in rows:
        color, noun = str(row["label"]).partition(" ")[0], noun_of(str(row["label"]))
        told = noun != row["label"] and color in words.colors and names.get(noun, words.subjects) < words.subjects
        colors.append(words.colors.index(color) if told else NONE)
        nouns.append(names[noun] if told else NONE)
    return Seen(
        pictures.pixels,
        torch.tensor([names[str(row["label"])] for row in rows]),
        torch.tensor([styles[str(row["style_words"])] if row["style_words"] else NONE for row in rows]),
        torch.tensor(colors),
        torch.tensor(nouns),
    )


def painted(cutouts: Sequence[Cutout], words: Words, plan: Seeing) -> Seen:
    """Drawings on grounds of any color: half of those that can be are repainted; others have their color, or none."""
    rng, size = Random(plan.seed), plan.network.size
    places = {word: i for i, word in enumerate(words.names)}
    pixels, known = [], []
    for _ in range(plan.painted):
        cutout = rng.choice(cutouts)
        color, drawn = cutout.color, cutout.pixels
        if cutout.recolorable and rng.random() < 0.7:
            color = rng.choice(list(PAINTS))
            drawn = drawn.copy()
            drawn[..., :3] = repaint(drawn[..., :3], cutout.paint, color)
        if color not in (None, *words.colors):
            continue
        inside = drawn[::2, ::2][drawn[::2, ::2, 3] >= CLEAR][:, :3]
        hidden = hidden_on(inside) if len(inside) else frozenset[str]()
        free = [name for name in COLORS if name not in hidden]
        if not free:
            continue
        ground = "white" if "white" in free and rng.random() < 0.4 else rng.choice(free)
        canvas = Image.new("RGBA", (size, size), COLORS[ground])
        image = Image.fromarray(drawn)
        image.thumbnail((round(size * rng.uniform(0.6, 1)),) * 2, Image.Resampling.LANCZOS)
        canvas.alpha_composite(image, ((size - image.width) // 2, (size - image.height) // 2))
        pixels.append(np.asarray(canvas)[..., :3].transpose(2, 0, 1).copy())
        known.append((places[cutout.noun], words.styles.index(cutout.style), words.colors.index(color or "")))
    if not known:
        nothing = torch.zeros(0, dtype=torch.long)
        return Seen(torch.zeros(0, 3, size, size, dtype=torch.uint8), nothing, nothing, nothing, nothing)
    names, styles, colors = torch.tensor(known).T
    return Seen(torch.from_numpy(np.stack(pixels)), names, styles, colors, names)


def export(plan: Seeing, network: ConvVisionConfig, text: str, words: Words) -> Path:
    """Writes the newest checkpoint's averaged weights as RUN/vision.safetensors, its lists in the metadata."""
    found = checkpoint.newest(plan.run)
    assert found is not None  # the loop has just saved one
    notes, parts = found
    scale = Tower(ConvVision(network))
    scale.load_state_dict(dict(parts["averaged"]))
    lists = {
        "subject": [with_article(name) for name in words.names[: words.subjects]],
        "color": list(words.colors[1:]),
        "style": list(words.styles[1:]),
    }
    told = {"network": asdict(network), "text": text, "scale": scale.scale.item(), "lists": lists}
    metadata = {SETTINGS: json.dumps({"vision": told}), "format": "pt", "kind": "vision", "steps": str(notes["step"])}
    metadata |= {"license": plan.license, "description": plan.description}
    halves = {k.removeprefix("vision."): v.half().contiguous() for k, v in parts["averaged"].items() if "." in k}
    path = plan.run / "vision.safetensors"
    durable_write(path, lambda target: save_file(halves, target, metadata))
    return path
