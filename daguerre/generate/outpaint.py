"""Outpainting: a picture drawn on beyond its edges, window by window."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageChops

from ..diffusion.denoiser import Step
from ..families.model import Model
from ..request import MAX_SEED, Outpaint, RequestError
from .controls.steering import seen_through
from .drawing import Control, Drawing, Picture, prepared, to_image
from .given import GRID, opaque, to_pixels, used
from .inpaint import drawn_over
from .masks import joined, mirrored, softened, to_values, without
from .tiling import refuse_tiling
from .window import Given, Window

MAX_PIXELS = 64_000_000  # of the result


class Plan(NamedTuple):
    """Where the given picture and the result lie on a canvas, and the windows that are drawn one after the other."""

    canvas: tuple[int, int]
    result: tuple[int, int, int, int]  # box
    given: tuple[int, int, int, int]  # box; its left upper corner is on the grid of latents
    window: tuple[int, int]
    corners: list[tuple[int, int]]  # left upper ones

    def seen(self, k: int) -> Window:
        """What window k shows of the result."""
        x, y = self.corners[k]
        return self.of_result((x, y, x + self.window[0], y + self.window[1]))

    def of_result(self, box: tuple[int, int, int, int]) -> Window:
        """A box of the canvas as one of the result."""
        whole = Window(self.canvas, self.result)
        return Window(self.canvas, box).within(whole)


@torch.no_grad()
def outpaint(
    model: Model, request: Outpaint, image: Image.Image, controls: Sequence[Control] = ()
) -> Iterator[Step | Picture]:
    """Yields the steps of every window, and pictures as `text_to_image` does. With the fill "fill", what is added
    begins as the picture's mirror image.

    Pixels of the given picture farther than int(2.5 * mask_blur + 0.5) from what is added stay to the bit as they
    were; nearer ones are blended with what was drawn over them. Raises RequestError and NumericError.
    """
    given = opaque(image)
    plan = planned(request, given.size, (model.defaults.width, model.defaults.height))
    request = replace(request, width=plan.window[0], height=plan.window[1])
    known = Given(given.convert("RGBA"), plan.of_result(plan.given))
    with prepared(model, request, controls, part=plan.seen(0), given=known) as drawing:
        drawing = replace(drawing, pictures=(used("image", given), *drawing.pictures))
        for i in range(request.count):
            begun = time.perf_counter()
            canvas, unknown = Image.new("RGB", plan.canvas), Image.new("L", plan.canvas, 255)
            lasting = Image.new("L", plan.canvas)
            lasting.paste(255, plan.result)
            canvas.paste(given, plan.given)
            unknown.paste(0, plan.given)
            for k, (x, y) in enumerate(plan.corners):
                box = (x, y, x + plan.window[0], y + plan.window[1])
                part, mask = canvas.crop(box), unknown.crop(box)
                if not mask.getbbox():
                    continue
                begin, fill = part, request.fill
                if fill == "fill":
                    begin, fill = to_image(mirrored(to_pixels(part), to_values(mask) == 0)), "original"
                over = seen_through(drawing, Given(without(begin, mask), plan.seen(k)))
                made = yield from drawn_over(_window(over, k), i, begin, mask, fill)
                asked = softened(to_values(ImageChops.darker(mask, lasting.crop(box))), request.mask_blur)
                canvas.paste(joined(part, made, asked.maximum(softened(to_values(mask), 0))), box)
                unknown.paste(0, box)
            yield drawing.picture(i, canvas.crop(plan.result), begun)


def planned(request: Outpaint, size: tuple[int, int], own: tuple[int, int]) -> Plan:
    """How to draw on from a picture of this size, at most half a window at once; `own` is the model's own size.

    First to the left and right, then up and down. Raises RequestError for nothing to add, for too much, and for edges
    that are to meet, which windows do not see.
    """
    refuse_tiling(request, "what is drawn on, part by part, cannot repeat")
    before, after = (request.left, request.up), (request.right, request.down)
    width, height = (a + b + c for a, b, c in zip(before, size, after, strict=True))
    if not any((*before, *after)):
        raise RequestError("nothing is to be added; give the pixels for left, right, up or down")
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
        raise RequestError(f"the picture would have {width} x {height} pixels; {limit}")
    window = request.width or own[0], request.height or own[1]
    low = [_on_grid(side) for side in before]
    high = [start + side for start, side in zip(low, size, strict=True)]
    end = [start + _on_grid(side) for start, side in zip(high, after, strict=True)]
    canvas = max(end[0], window[0]), max(end[1], window[1])
    result = low[0] - request.left, low[1] - request.up
    given = low[0], low[1], high[0], high[1]
    corners: list[tuple[int, int]] = []
    for axis, across in ((0, 1), (1, 0)):
        half = window[axis] // 2 // GRID * GRID
        lines = _lines(low[across], high[across], window[across], canvas[across])
        while low[axis] > 0 or high[axis] < end[axis]:
            places = []
            if low[axis] > 0:
                low[axis] = max(0, low[axis] - half)
                places.append(min(low[axis], canvas[axis] - window[axis]))
            if high[axis] < end[axis]:
                high[axis] = min(end[axis], high[axis] + half)
                places.append(max(0, high[axis] - window[axis]))
            corners += [(place, line) if axis == 0 else (line, place) for place in places for line in lines]
    box = (*result, result[0] + width, result[1] + height)
    return Plan(canvas, box, given, window, list(dict.fromkeys(corners)))


def _on_grid(pixels: int) -> int:
    return ceil(pixels / GRID) * GRID


def _lines(low: int, high: int, length: int, limit: int) -> list[int]:
    """Where windows of a length start that cover low to high, each at most three quarters past the one before."""
    if high - low <= length:
        return [min(max(0, (low + high - length) // 2 // GRID * GRID), limit - length)]
    stride = length * 3 // 4 // GRID * GRID
    return [*range(low, high - length, stride), high - length]


def _window(drawing: Drawing, k: int) -> Drawing:
    """The drawing with noise of its own for window k, the request's for the first."""
    if k == 0:
        return drawing
    request = drawing.request
    seeds: dict[str, Any] = {}
    for name in ("seed", "variation_seed"):
        digest = hashlib.sha256(f"{getattr(request, name)} {k}".encode()).digest()
        seeds[name] = int.from_bytes(digest[:4]) % (MAX_SEED - request.count)
    return replace(drawing, request=replace(request, **seeds))
