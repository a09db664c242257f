"""What does a text encoder know? Of words that no caption held, of other languages, of colors and counts.

    python benchmarks/train/words.py --pictures TABLE.parquet --names NAMES.parquet --towers AVERAGED.safetensors ...

Each file of --towers holds the averaged weights of a stage "clip"; a line is printed for each.

- **retrieval**: of held-out pictures (splits val and pair_holdout), the share whose own caption is the nearest of all,
  and the other way round; then among the nearest five.
- **names**: of names in other languages, the share whose nearest English name, of all, is that of the same thing.
  All names are taught, so this is memory; **painted** asks for "red" and nine other colors of names instead, in
  combinations of which a small part is taught.
- **unseen**: the nearest English names of words that no caption holds, to be read.
- **kinds**: how well a linear map of 2,000 scenes' captions tells color, background, count and style of 1,000 others,
  from pooled texts and from the mean of token states.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from daguerre.data.colors import COLORS, PAINTS
from daguerre.data.pictures import load_parquet
from daguerre.data.wording import SceneWords, caption
from daguerre.models.clip import CLIPText
from daguerre.models.vision import CLIPVision
from daguerre.train.contrastive import Towers, small
from daguerre.train.illustrations import tokenize
from daguerre.train.phrasebook import ABROAD, AFTER, CLOSED
from daguerre.train.tintype import TINTYPE

UNSEEN = (
    "puppy", "kitten", "automobile", "vessel", "physician", "soda", "bunny", "feline", "hound", "pony", "lorry",
    "aircraft", "jet", "infant", "lad", "monarch", "burger", "pastry", "spud", "maize", "timepiece", "spectacles",
    "sneaker", "blizzard", "dwelling", "cello", "pistol", "serpent", "reptile", "blossom", "granny", "astronomer",
)  # fmt: skip
SOME = 8  # of how many things the names of one are asked for
BATCH = 128


@torch.no_grad()
def states(text: CLIPText, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Pooled texts (N, D), unit length, and means of their token states (N, D)."""
    pooled, means = torch.empty(len(phrases), text.config.width), torch.empty(len(phrases), text.config.width)
    ids = tokenize(list(phrases))
    used = (ids != text.config.end_token).sum(1) + 1
    for part in used.argsort().split(BATCH):  # type: ignore[no-untyped-call]
        longest = int(used[part].max())
        told = text(ids[part, :longest])
        seen = (torch.arange(longest) < used[part, None])[..., None]
        pooled[part] = F.normalize(told.pooled, dim=-1)
        means[part] = (told.last * seen).sum(1) / seen.sum(1)
    return pooled, means


@torch.no_grad()
def retrieval(towers: Towers, path: Path) -> dict[str, float]:
    sets = [load_parquet(path, split, TINTYPE.size, ("caption",)) for split in ("val", "pair_holdout")]
    captions = [str(row["caption"]) for pictures in sets for row in pictures.rows]
    pixels = torch.cat([p.batch(torch.arange(len(p))) for p in sets])
    seen = torch.cat([towers.vision(small(part, towers.vision)) for part in pixels.split(BATCH)])  # type: ignore[no-untyped-call]
    alike = F.normalize(seen, dim=-1) @ states(towers.text, captions)[0].T
    right = torch.tensor([[a == b for b in captions] for a in captions])
    found = {}
    for name, side, own in (("caption of picture", alike, right), ("picture of caption", alike.T, right.T)):
        for k in (1, 5):
            found[f"{name}, top {k}"] = own.gather(1, side.topk(k).indices).any(1).float().mean().item()
    return found


class Names:
    """Names of things in many languages, and the English ones to be found."""

    def __init__(self, path: Path):
        rows = [row for row in pyarrow.parquet.read_table(path).to_pylist() if row["label"]]
        english = {row["concept"]: str(row["label"]).lower() for row in rows if row["locale"] == "en"}
        self.english = list(dict.fromkeys(english.values()))
        place = {label: i for i, label in enumerate(self.english)}
        asked = set(sorted(english)[::SOME])
        others = [row for row in rows if row["concept"] in asked and not row["locale"].startswith("en")]
        self.asked = [str(row["label"]) for row in others]
        self.right = torch.tensor([place[english[row["concept"]]] for row in others])
        self.painted = list(self._painted(others, english, Random(0)))

    def _painted(self, others: list[dict[str, Any]], english: dict[str, str], rng: Random) -> Any:
        for row in rng.choices([row for row in others if row["locale"] in ABROAD], k=500):
            locale, label = row["locale"], str(row["label"])
            color, said = rng.choice(list(zip((*PAINTS, "black", "white"), ABROAD[locale].split(), strict=True)))
            pair = (label, said) if locale in AFTER else (said, label)
            yield ("" if locale in CLOSED else " ").join(pair), color, english[row["concept"]]

    def found(self, text: CLIPText) -> dict[str, float]:
        alike = states(text, self.asked)[0] @ states(text, self.english)[0].T
        nearest = alike.topk(5).indices == self.right[:, None]
        share = {"names, top 1": nearest[:, 0], "names, top 5": nearest.any(1)}
        said = states(text, [said for said, _, _ in self.painted])[0]
        colors = (*PAINTS, "black", "white")
        of_thing = [states(text, [f"{c} {name}" for c in colors])[0] for _, _, name in self.painted]
        picked = torch.stack([(a @ b.T).argmax() for a, b in zip(said, of_thing, strict=True)])
        share["painted, its color of ten"] = picked == torch.tensor([colors.index(c) for _, c, _ in self.painted])
        return {name: values.float().mean().item() for name, values in share.items()}


def kinds(text: CLIPText, labels: Sequence[str], styles: Sequence[str]) -> dict[str, float]:
    """Accuracies of ridge regressions onto one-hot answers."""
    rng, captions, answers = Random(1), list[str](), list[tuple[str, str, str, str]]()
    for _ in range(3000):
        count, color = rng.choice((1, 2, 3, 4)), rng.choice(list(PAINTS))
        background, style = rng.choice([c for c in COLORS if c != "white"]), rng.choice(styles)
        words = SceneWords(((rng.choice(labels), color),) * count, background, style)
        said = caption(words, rng)
        captions.append(said if style in said else f"{said}, {style}")
        answers.append((color, background, str(count), style))
    found = {}
    for source, x in zip(("pooled", "states"), states(text, captions), strict=True):
        x = torch.cat([(x - x.mean(0)) / x.std(), torch.ones(len(x), 1)], 1)
        for i, kind in enumerate(("color", "background", "count", "style")):
            known = sorted({a[i] for a in answers})
            y = torch.tensor([known.index(a[i]) for a in answers])
            fit, one_hot = x[:2000], F.one_hot(y[:2000]).float()
            weights = torch.linalg.solve(fit.T @ fit + torch.eye(x.shape[1]), fit.T @ one_hot)
            found[f"{kind} from {source}"] = ((x[2000:] @ weights).argmax(1) == y[2000:]).float().mean().item()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What does a text encoder know?")
    for name in ("pictures", "names"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--towers", type=Path, nargs="+", required=True)
    a = parser.parse_args()
    rows = pyarrow.parquet.read_table(a.pictures, columns=["label", "style_words", "split"]).to_pylist()
    rows = [row for row in rows if row["split"] == "train"]
    labels = sorted({row["label"] for row in rows if ":" not in row["label"]})
    styles, names = sorted({row["style_words"] for row in rows}), Names(a.names)
    for path in a.towers:
        towers, saved = Towers(CLIPText(TINTYPE.text), CLIPVision(TINTYPE.vision)).eval(), load_file(path)
        towers.load_state_dict({name: saved[name] for name in towers.state_dict()})
        print(f"## {path}\n")
        figures = retrieval(towers, a.pictures) | names.found(towers.text) | kinds(towers.text, labels, styles)
        for name, value in figures.items():
            print(f"- {name}: {value:.3f}")
        alike = states(towers.text, UNSEEN)[0] @ states(towers.text, names.english)[0].T
        for word, nearest in zip(UNSEEN, alike.topk(4).indices, strict=True):
            print(f"- {word}: {', '.join(names.english[i] for i in nearest)}")


if __name__ == "__main__":
    main()
