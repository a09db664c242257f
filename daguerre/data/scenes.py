"""Unlimited captioned scenes of cut-outs, with every thing's place, color and number known.

The six tasks are those of GenEval (arXiv:2310.11513): what a prompt can ask for beyond the thing itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from .colors import COLORS, PAINTS, Pixels, color_name, dominant, hidden_on, repaint
from .cutouts import CLEAR, Cutout, cropped, load_cutouts
from .layout import RELATIONS, Box, beside, scattered
from .wording import SceneWords, caption

__all__ = ["COLORS", "TASKS", "Composer", "Cutout", "Scene", "Thing", "held_out_color", "held_out_count",
           "held_out_pair", "load_cutouts"]  # fmt: skip

TASKS = ("single object", "two objects", "counting", "position", "colors", "color attribution")
COUNTS = (2, 3, 4)
WHITE = 0.4  # share of scenes on white, which is what a picture without a named background is on
TRIES = 200


@dataclass(frozen=True)
class Thing:
    """One thing of a scene, in a box (left, top, right, bottom) of pixels, right and bottom excluded.

    `color` is None where the caption says nothing of it.
    """

    name: str
    color: str | None
    box: Box


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture (size, size, 3) of 8 bits, what it shows, and the words for it.

    Of the task "position" `relation` says where the first thing is of the second: one of RELATIONS.
    """

    pixels: Pixels
    caption: str
    task: str
    things: tuple[Thing, ...]
    background: str
    style: str
    held_out: bool
    relation: str | None = None


def held_out_pair(first: str, second: str) -> bool:
    """Whether no training scene shows these two nouns together: one pair in five."""
    return _share("pair", *sorted((first, second))) < 0.20


def held_out_color(noun: str, color: str) -> bool:
    """Whether no training scene shows this noun in this color: 15 in 100."""
    return _share("color", noun, color) < 0.15


def held_out_count(noun: str, count: int) -> bool:
    """Whether no training scene shows so many of this noun: four of one noun in ten."""
    return count == COUNTS[-1] and _share("count", noun) < 0.10


def _share(*names: str) -> float:
    """A number in [0, 1) that depends on the names only."""
    return int.from_bytes(hashlib.sha1("/".join(names).encode()).digest()[:6]) / 2**48


@dataclass(frozen=True)
class _Draft:
    """What a scene will show: a cut-out, and a color if it is to have one, for each thing."""

    items: tuple[tuple[Cutout, str | None], ...]
    held_out: bool


class Composer:
    """Makes scenes: `scene(number)` for any number, the same each time.

    With `held_out` a scene shows a pair, a color or a count that is held out; without, never one. A single thing in
    its own color is never held out: those scenes differ from the others in number only. Raises ValueError where the
    cut-outs do not suffice.
    """

    def __init__(self, cutouts: Sequence[Cutout], seed: int, size: int = 128, held_out: bool = False):
        self.seed, self.size, self.held_out = seed, size, held_out
        self._styles: dict[str, dict[str, list[Cutout]]] = {}
        for cutout in cutouts:
            self._styles.setdefault(cutout.style, {}).setdefault(cutout.noun, []).append(cutout)
        # A color that a thing has anyway is no new combination, so it is never held out.
        self._usual = {(c.noun, c.color) for c in cutouts if c.color}
        if not self._styles:
            raise ValueError("there are no cut-outs to make scenes of")

    def scene(self, number: int, task: str | None = None) -> Scene:
        """Scene `number` of a task, or of any; a pure function of the seed, the number and the task."""
        if task is None:
            task = Random(f"{self.seed}/{number}").choice(TASKS)
        if task not in TASKS:
            raise ValueError(f"{task!r} is no task of scenes; choose one of {', '.join(TASKS)}")
        rng = Random(f"{self.seed}/{number}/{task}/{self.held_out}")
        for _ in range(TRIES):
            draft = self._draft(task, rng)
            if draft is not None and (draft.held_out == self.held_out or task == "single object"):
                scene = self._made(draft, task, rng)
                if scene is not None:
                    return scene
        kind = "held-out " if self.held_out else ""
        raise ValueError(f"the cut-outs allow no {kind}scene of the task {task!r}; give more of them")

    def _draft(self, task: str, rng: Random) -> _Draft | None:
        """What to show, or None where chance chose what does not fit together."""
        nouns = self._styles[rng.choice(list(self._styles))]
        first = rng.choice(nouns[rng.choice(list(nouns))])
        if task == "single object":
            return _Draft(((first, None),), self.held_out)
        if task == "counting":
            count = COUNTS[-1] if self.held_out else rng.choice(COUNTS)
            return _Draft(((first, None),) * count, held_out_count(first.noun, count))
        second = rng.choice(nouns[rng.choice(list(nouns))])
        if task == "colors":
            items: tuple[tuple[Cutout, str | None], ...] = ((first, rng.choice(list(PAINTS))),)
        elif set(first.name.split()) & set(second.name.split()):
            return None  # a cat and a cat face: who could tell?
        elif task == "color attribution":
            one, other = rng.sample(list(PAINTS), 2)
            items = (first, one), (second, other)
        else:
            items = (first, None), (second, None)
        if any(color and not cutout.recolorable for cutout, color in items):
            return None
        held_out = any(color and self._new_color(cutout.noun, color) for cutout, color in items)
        held_out |= len(items) == 2 and held_out_pair(first.noun, second.noun)
        return _Draft(items, held_out)

    def _new_color(self, noun: str, color: str) -> bool:
        return held_out_color(noun, color) and (noun, color) not in self._usual

    def _made(self, draft: _Draft, task: str, rng: Random) -> Scene | None:
        relation = rng.choice(RELATIONS) if task == "position" else None
        shapes = [cutout.pixels.shape for cutout, _ in draft.items]
        sides = [(width, height) for height, width, _ in shapes]
        boxes = beside(sides, self.size, relation, rng) if relation else scattered(sides, self.size, rng)
        drawn = [_drawn(cutout, color, box) for (cutout, color), box in zip(draft.items, boxes, strict=True)]
        background = _background([pixels for pixels in drawn if pixels is not None], draft, rng)
        if background is None:
            return None
        things = []
        canvas = Image.new("RGBA", (self.size, self.size), COLORS[background])
        for (cutout, color), box, pixels in zip(draft.items, boxes, drawn, strict=True):
            if pixels is None:
                return None
            canvas.alpha_composite(Image.fromarray(pixels), box[:2])
            place = (box[0], box[1], box[0] + pixels.shape[1], box[1] + pixels.shape[0])
            things.append(Thing(cutout.noun if color else cutout.name, color, place))
        style = draft.items[0][0].style
        words = SceneWords(tuple((t.name, t.color) for t in things), background, style, relation)
        return Scene(
            pixels=np.asarray(canvas)[..., :3].copy(), caption=caption(words, rng), task=task, things=tuple(things),
            background=background, style=style, held_out=self.held_out, relation=relation,
        )  # fmt: skip


def _drawn(cutout: Cutout, color: str | None, box: Box) -> Pixels | None:
    """The pixels of a thing for its box, in its color; None where that color did not come out as its name."""
    size = box[2] - box[0], box[3] - box[1]
    pixels = cropped(np.array(Image.fromarray(cutout.pixels).resize(size, Image.Resampling.BILINEAR)))
    if color is None or color == cutout.color:
        return pixels
    pixels[..., :3] = repaint(pixels[..., :3], cutout.paint, color)
    paint, one = dominant(_inside(pixels))
    return pixels if one and color_name(paint) == color else None


def _inside(pixels: Pixels) -> Pixels:
    """A sample of the pixels that are surely the thing's, (N, 3)."""
    thin = pixels[::2, ::2]
    return thin[thin[..., 3] >= CLEAR][:, :3]


def _background(drawn: Sequence[Pixels], draft: _Draft, rng: Random) -> str | None:
    """A color on which all things are seen and that is none of theirs; None where there is none."""
    taken = {color or cutout.color for cutout, color in draft.items}
    free = [name for name in COLORS if name not in taken]
    for pixels in drawn:
        hidden = hidden_on(_inside(pixels))
        free = [name for name in free if name not in hidden]
    if "white" in free and rng.random() < WHITE:
        return "white"
    return rng.choice(free) if free else None
