"""Preprocessors: what a control's network shall see of a picture. They are called modules, as in A1111.

Each takes a picture of mode RGB or RGBA, already of the hint's size, and gives (3, H, W), float32, in [0, 1].
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...request import RequestError
from .. import given

Values = npt.NDArray[np.float32]  # (H, W) or (H, W, 3), 0 to 255 as in pictures of 8 bits
LOW, HIGH = 100, 200  # thresholds of canny, as A1111 has them
TANGENT = 13573  # of 22.5 degrees, times 2**15
MASKED = -1.0  # what an inpainting ControlNet sees where the picture is to be drawn anew


def opened(image: Image.Image, module: str) -> Image.Image:
    """A given picture as its module takes it: upright, a depth map with all its bits, opaque unless holes are meant."""
    if module == "depth" and (image.mode in ("I", "F") or image.mode.startswith("I;16")):
        return image.convert("F")
    return given.upright(image) if module == "inpaint" else given.opaque(image)


def as_it_is(image: Image.Image) -> Tensor:
    """A picture that is a hint already, or one whose details shall be drawn anew (tile)."""
    return _hint(np.asarray(image.convert("RGB"), np.float32))


def inverted(image: Image.Image) -> Tensor:
    """Lines drawn in black on white as networks know them: white on black."""
    return 1 - as_it_is(image)


def canny(image: Image.Image, low: int = LOW, high: int = HIGH) -> Tensor:
    """Canny's edges (doi:10.1109/TPAMI.1986.4767851), white on black, equal to OpenCV's of the same thresholds.

    An edge begins where the gradient, |dx| + |dy| of the strongest color, is above `high`, and goes on above `low`.
    """
    colors = np.pad(np.asarray(image.convert("RGB"), np.int32), ((1, 1), (1, 1), (0, 0)), "edge")
    rows = colors[:-2] + 2 * colors[1:-1] + colors[2:]
    columns = colors[:, :-2] + 2 * colors[:, 1:-1] + colors[:, 2:]
    dx, dy = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    strongest = (np.abs(dx) + np.abs(dy)).argmax(2)[..., None]
    dx, dy = (np.take_along_axis(d, strongest, 2)[..., 0].astype(np.int64) for d in (dx, dy))
    size = np.abs(dx) + np.abs(dy)
    around = np.pad(size, 1)

    def beside(down: int, right: int) -> npt.NDArray[np.int64]:
        height, width = size.shape
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(dx), np.abs(dy) << 15
    flat, steep = y < x * TANGENT, y > x * TANGENT + (x << 16)
    falling = (dx ^ dy) < 0
    peak = np.where(flat, (size > beside(0, -1)) & (size >= beside(0, 1)),
           np.where(steep, (size > beside(-1, 0)) & (size >= beside(1, 0)),
           np.where(falling, (size > beside(-1, 1)) & (size > beside(1, -1)),
                    (size > beside(-1, -1)) & (size > beside(1, 1)))))  # fmt: skip
    weak, edge = torch.from_numpy(peak & (size > low)), torch.from_numpy(peak & (size > high))
    while True:
        grown = weak & (F.max_pool2d(edge[None].float(), 3, 1, 1)[0] > 0)
        if torch.equal(grown, edge):
            return edge.float().expand(3, -1, -1)
        edge = grown


def line_art(image: Image.Image) -> Tensor:
    """Lines of dark ink, white on black: how much darker a place is than around it (A1111's lineart_standard)."""
    colors = np.asarray(image.convert("RGB"), np.float32)
    darker = (blurred(colors, 6.0) - colors).min(2).clip(0, 255)
    strong = darker[darker > 8]
    middle = float(np.median(strong)) if strong.size else 0.0
    return _hint(np.floor((darker / max(16.0, middle) * 127).clip(0, 255)))


def soft_edges(image: Image.Image) -> Tensor:
    """Gradients of a slightly blurred picture, the strongest white: soft lines without thresholds."""
    soft = blurred(np.asarray(image.convert("RGB"), np.float32), 1.0)
    down, right = np.gradient(soft, axis=(0, 1))
    size = np.hypot(down, right).max(2)
    return _hint(size * (255 / max(1.0, float(size.max()))))


def scribble(image: Image.Image, threshold: int = 32) -> Tensor:
    """Thick lines, white on black: an extended difference of Gaussians (doi:10.1016/j.cag.2012.03.004), thresholded."""
    colors = np.asarray(image.convert("RGB"), np.float32)
    light = (255 - (blurred(colors, 5.0) - blurred(colors, 0.5)).min(2)).clip(0, 255).astype(np.uint8)
    return _hint(np.where(2 * (255 - light.astype(np.int32)) > threshold, 255, 0).astype(np.float32))


def depth(image: Image.Image) -> Tensor:
    """A depth map from a file, of any number of bits: near is white. Its values are stretched to black and white.

    Raises RequestError where it is flat or holds values that are not finite.
    """
    values = np.asarray(image.convert("F") if image.mode == "F" else image.convert("L"), np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all() or low == high:
        raise RequestError("the depth map is flat or has values that are not finite; give one with near and far")
    return _hint((values - low) * (255 / (high - low)))


def to_fill(image: Image.Image) -> Tensor:
    """A picture with -1 wherever it is transparent: what an inpainting ControlNet is trained to draw anew.

    Raises RequestError where nothing is transparent.
    """
    if not image.has_transparency_data:
        raise RequestError("nothing in the control picture is transparent; erase what shall be drawn anew")
    hint, alpha = as_it_is(image), np.array(image.convert("RGBA").getchannel("A"))
    return hint.masked_fill(torch.from_numpy(alpha < 128), MASKED)


MODULES: Mapping[str, Callable[[Image.Image], Tensor]] = {
    "none": as_it_is,
    "invert": inverted,
    "canny": canny,
    "lineart": line_art,
    "softedge": soft_edges,
    "scribble": scribble,
    "depth": depth,
    "tile": as_it_is,
    "inpaint": to_fill,
}


def blurred(values: Values, sigma: float) -> Values:
    """Gaussian blur of (H, W, C) as OpenCV does it: a kernel of 8 sigma, edges mirrored without the edge itself."""
    reach = round(sigma * 8 + 1) // 2
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    y = torch.from_numpy(values).permute(2, 0, 1)[:, None]
    for axis in (2, 3):
        index = torch.from_numpy(np.pad(np.arange(y.shape[axis]), reach, "reflect"))
        wide = y.index_select(axis, index)
        y = F.conv2d(wide, kernel.unsqueeze(5 - axis))
    return y[:, 0].permute(1, 2, 0).numpy()


def _hint(values: Values) -> Tensor:
    """(H, W) or (H, W, 3) in 0 to 255 as (3, H, W) in [0, 1]."""
    hint = torch.from_numpy(np.ascontiguousarray(values, np.float32)) / 255
    return hint.expand(3, -1, -1) if hint.ndim == 2 else hint.permute(2, 0, 1)
