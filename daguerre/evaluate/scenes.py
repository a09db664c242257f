"""Six tasks (GenEval, arXiv:2310.11513) on combinations that training held out, graded by a detector.

The detector is graded first: on real scenes, which it should find right, and on the same scenes under captions that
miss by one thing, which it should find wrong.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from random import Random

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.colors import PAINTS, Pixels, color_name
from ..data.cutouts import load_cutouts, noun_of
from ..data.scenes import TASKS, Composer, Scene
from .bench import Bench, to_image
from .detect import Example, Namer, Seen, examples, ground_of, things_in
from .drawings import Asked, through_autoencoder, to_tensor
from .figures import Figure, ratio, share
from .sheets import Cell, Sheet

SECTION = "scenes: held-out combinations of taught things, graded by a detector that is itself graded here"
SEED = 1
SHOWN = 10  # of each task
FAR = 0.1  # of the picture's side: centers that are less apart are neither left nor right of each other
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
Named = tuple[Seen, frozenset[str]]  # a thing that was found, and what it may be
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detector:
    """Finds and names the things in pictures."""

    bench: Bench
    namer: Namer

    def find(self, pixels: Pixels) -> list[Named]:
        """The things in a picture (H, W, 3) of 8 bits."""
        seen = things_in(pixels)
        if not seen:
            return []
        vectors = self.bench.look([one.crop for one in seen]).concept
        return list(zip(seen, self.namer.guesses(vectors), strict=True))


def right(found: Sequence[Named], scene: Scene, size: int) -> bool:
    """Whether the things found are those that the scene's caption asks for, in a picture of `size` pixels."""
    wanted = [(noun_of(thing.name), thing.color) for thing in scene.things]
    if scene.task == "counting":
        return sum(wanted[0][0] in guesses for _, guesses in found) == len(wanted)
    for chosen in permutations(found, len(wanted)):
        fits = all(
            noun in guesses and color in (None, seen.color)
            for (seen, guesses), (noun, color) in zip(chosen, wanted, strict=True)
        )
        if fits and (scene.relation is None or _placed(chosen[0][0], chosen[1][0], scene.relation, FAR * size)):
            return True
    return False


def _placed(first: Seen, second: Seen, relation: str, far: float) -> bool:
    (x, y), (u, v) = first.center, second.center
    return {"left of": u - x, "right of": x - u, "above": v - y, "below": y - v}[relation] > far


def missed(scene: Scene, nouns: Sequence[str], random: Random) -> Scene:
    """The same scene as if it were asked for with one fact changed."""
    first, *rest = scene.things
    other = random.choice([noun for noun in nouns if all(noun != noun_of(thing.name) for thing in scene.things)])
    if scene.task == "counting":
        return replace(scene, things=(first, *scene.things) if random.random() < 0.5 else tuple(rest))
    if scene.relation:
        return replace(scene, relation=OPPOSITE[scene.relation])
    if scene.task == "colors":
        color = random.choice([color for color in PAINTS if color != first.color])
        return replace(scene, things=(replace(first, color=color),))
    if scene.task == "color attribution":
        return replace(
            scene, things=(replace(first, color=rest[0].color), replace(rest[0], color=first.color), *rest[1:])
        )
    return replace(scene, things=(replace(first, name=other), *rest))


def composed(bench: Bench) -> Iterator[Figure | Sheet]:
    """Shares of right pictures by task; nothing, but a warning, where a table has too few cut-outs for scenes."""
    try:
        cutouts = load_cutouts(bench.plan.pictures)
        composer = Composer([c for c in cutouts if (c.name, c.style) in bench.taught], SEED, held_out=True)
        count = bench.plan.amounts.scenes
        scenes = [composer.scene(number, task) for task in TASKS for number in range(count)]
    except ValueError as error:
        log.warning("no scenes are judged: %s", error)
        return
    made = examples(cutouts)
    vectors = bench.kept("things", (one.crop for one in bench.counted("learning names", made)))
    detector = Detector(bench, Namer(made, vectors))
    yield from _unknown(bench, made, vectors, scenes)
    images = bench.drawn("scenes", [Asked(scene.caption) for scene in scenes])
    drawn = [np.asarray(image) for image in images]
    yield from _graded(detector, scenes, drawn)
    says = f"Every task in turn, the first {SHOWN} of each, not picked."
    results = [right(detector.find(pixels), scene, len(pixels)) for scene, pixels in zip(scenes, drawn, strict=True)]
    shown = [i for i in range(len(scenes)) if i % count < SHOWN]
    cells = [Cell(images[i], f"{scenes[i].caption} ({'right' if results[i] else 'wrong'})") for i in shown]
    yield Sheet("scenes", "Scenes", says, tuple(cells))
    yield Sheet("real-scenes", "The real scenes", "What the captions ask for.",
                tuple(Cell(Image.fromarray(scenes[i].pixels), scenes[i].caption) for i in shown))  # fmt: skip


def _unknown(bench: Bench, made: Sequence[Example], vectors: Tensor, scenes: Sequence[Scene]) -> Iterator[Figure]:
    """How well it names drawings that it has not learned: those of a family, by a detector that lacks the family."""
    families = {item.style: item.family for item in bench.real}
    results = []
    for family in sorted({families[scene.style] for scene in scenes}):
        styles = {style for style, own in families.items() if own == family}
        detector = Detector(bench, Namer(made, vectors, without=styles))
        results += [right(detector.find(s.pixels), s, len(s.pixels)) for s in scenes if s.style in styles]
    name = "overall, drawings unknown to the detector"
    yield Figure(section=SECTION, name=name, model=None, real=share(results))


def _graded(detector: Detector, scenes: Sequence[Scene], drawn: Sequence[Pixels]) -> Iterator[Figure]:
    bench, random = detector.bench, Random(SEED)
    real, near, back, ours = [], [], [], []
    for scene, pixels in bench.counted("grading scenes", list(zip(scenes, drawn, strict=True))):
        found = detector.find(scene.pixels)
        size = len(scene.pixels)
        real.append(right(found, scene, size))
        near.append(right(found, missed(scene, detector.namer.nouns, random), size))
        again = to_image(through_autoencoder(bench.model, to_tensor(Image.fromarray(scene.pixels))))
        back.append(right(detector.find(np.asarray(again)), scene, size))
        ours.append(right(detector.find(pixels), scene, len(pixels)))
    note = "Near misses: real scenes under captions with one wrong fact, which the detector should not find right"
    for task in (*TASKS, "overall"):
        places = [i for i, scene in enumerate(scenes) if task in (scene.task, "overall")]
        model, own, decoded, wrong = ([part[i] for i in places] for part in (ours, real, back, near))
        figure = Figure(
            section=SECTION, name=task, model=share(model), real=share(own), decoded=share(decoded), note=note
        )
        yield replace(figure, ratio=ratio(model, own))
        yield Figure(section=SECTION, name=f"{task}, near misses", model=None, real=share(wrong), note=note)
    named = [i for i, scene in enumerate(scenes) if f"{scene.background} background" in scene.caption]
    if named:
        grounds = [[color_name(ground_of(p)) == scenes[i].background for i, p in ((i, source[i]) for i in named)]
                   for source in (drawn, [scene.pixels for scene in scenes])]  # fmt: skip
        yield Figure(section=SECTION, name="background, where named", model=share(grounds[0]), real=share(grounds[1]))
