"""What is in a picture of a few things on a plain ground: where, of what color, and by a linear probe, what."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..data.colors import PAINTS, Array, Pixels, color_name, dominant, oklab, repaint
from ..data.cutouts import Cutout
from .drawings import to_tensor
from .judge import fit, score

FRAME = 3  # pixels at the edge that tell the ground
APART = 0.09  # distance in Oklab from the ground at which something begins
LEAST = 1 / 250  # of the picture: what is smaller is dirt
FRAGMENT = 0.25  # of a neighbor: what is smaller and near is a part of it, as steam of a cup
REACH = 6  # pixels that are near
MARGIN = 1.12  # a crop's side, in the thing's longer sides
SIDE = 128  # pixels of a crop
GUESSES = 5  # a thing is what one of so many best guesses says
RIDGE = 1.0

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom excluded


@dataclass(frozen=True, eq=False)
class Seen:
    """One thing in a picture."""

    box: Box
    crop: Tensor  # (3, SIDE, SIDE) in [-1, 1]: it alone, in the middle of a white square
    color: str  # its dominant one

    @property
    def center(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def ground_of(pixels: Pixels) -> Array:
    """The color of the ground in Oklab (3,): the median at the edge of a picture (H, W, 3)."""
    inner = np.zeros(pixels.shape[:2], bool)
    inner[FRAME:-FRAME, FRAME:-FRAME] = True
    ground: Array = np.median(oklab(pixels[~inner]), axis=0)
    return ground


def things_in(pixels: Pixels) -> list[Seen]:
    """The things in a picture (H, W, 3) of 8 bits, largest first: what differs from the ground, part by part."""
    different = np.linalg.norm(oklab(pixels) - ground_of(pixels), axis=-1) > APART
    found = []
    for mask in _whole(_parts(different)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        alone = np.where(mask[..., None], pixels, 255).astype(np.uint8)[box[1] : box[3], box[0] : box[2]]
        found.append(Seen(box, crop(alone), color_name(dominant(pixels[mask])[0])))
    return found


def crop(pixels: Pixels) -> Tensor:
    """A thing (H, W, 3) on white in the middle of a square, as probes see it: (3, SIDE, SIDE) in [-1, 1]."""
    height, width = pixels.shape[:2]
    side = round(MARGIN * max(height, width))
    square = Image.new("RGB", (side, side), "white")
    square.paste(Image.fromarray(pixels), ((side - width) // 2, (side - height) // 2))
    return to_tensor(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _parts(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> list[np.ndarray]:
    """Connected parts of a mask, largest first, dirt left out: each place takes its neighbors' highest number."""
    inside = torch.from_numpy(mask)[None, None].float()
    labels = torch.arange(1, mask.size + 1).view(inside.shape) * inside
    while True:
        spread = F.max_pool2d(labels, 3, stride=1, padding=1) * inside
        if torch.equal(spread, labels):
            break
        labels = spread
    names, counts = np.unique(labels.numpy()[0, 0], return_counts=True)
    order = sorted((-count, name) for name, count in zip(names, counts, strict=True) if name)
    return [labels.numpy()[0, 0] == name for count, name in order if -count >= LEAST * mask.size]


def _whole(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Parts, largest first, each fragment joined to the neighbor that it belongs to."""
    whole: list[np.ndarray] = []
    for part in parts:
        near = F.max_pool2d(torch.from_numpy(part)[None].float(), 2 * REACH + 1, stride=1, padding=REACH)[0].numpy() > 0
        touched = [(int((near & other).sum()), i) for i, other in enumerate(whole)]
        shared, i = max(touched, default=(0, 0))
        if shared and part.sum() < FRAGMENT * whole[i].sum():
            whole[i] = whole[i] | part
        else:
            whole.append(part)
    return whole


class Example(NamedTuple):
    """A thing alone, and what it is."""

    noun: str
    style: str
    crop: Tensor  # as `crop` makes it


class Namer:
    """Names crops by a linear probe over the nouns of cut-outs."""

    def __init__(self, examples: Sequence[Example], vectors: Tensor, without: Container[str] = ()):
        """`vectors`: unit vectors (N, D), one for each example. Those in the styles `without` are not learned."""
        self.nouns = sorted({example.noun for example in examples})
        number = {noun: i for i, noun in enumerate(self.nouns)}
        used = [i for i, example in enumerate(examples) if example.style not in without]
        labels = torch.tensor([number[examples[i].noun] for i in used])
        self.probe = fit(vectors[used], labels, len(self.nouns), RIDGE)

    def guesses(self, vectors: Tensor) -> list[frozenset[str]]:
        """The best guesses for crops with these vectors (N, D)."""
        best = score(self.probe, vectors).topk(min(GUESSES, len(self.nouns)), dim=1).indices
        return [frozenset(self.nouns[i] for i in row) for row in best.tolist()]


def examples(cutouts: Sequence[Cutout]) -> list[Example]:
    """Every cut-out as it is, and once more in another color where it can be had in one."""
    found = []
    for number, cutout in enumerate(cutouts):
        found.append(Example(cutout.noun, cutout.style, _on_white(cutout.pixels)))
        if cutout.recolorable:
            color = Random(number).choice(list(PAINTS))
            painted = cutout.pixels.copy()
            painted[..., :3] = repaint(painted[..., :3], cutout.paint, color)
            found.append(Example(cutout.noun, cutout.style, _on_white(painted)))
    return found


def _on_white(pixels: Pixels) -> Tensor:
    image = Image.fromarray(pixels)
    white = Image.new("RGBA", image.size, "white")
    return crop(np.asarray(Image.alpha_composite(white, image).convert("RGB")))
