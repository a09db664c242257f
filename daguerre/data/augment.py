"""Decoded pictures to tensors of a bucket's size: cut, flipped, with colors changed."""

from math import pi
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .buckets import Size
from .config import Data

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
MOST = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}  # at strength 1; hue in turns


class Frame(NamedTuple):
    """What part of a picture a tensor shows."""

    original: Size  # width, height of the whole picture in pixels
    corner: tuple[int, int]  # left, top of the cut in pixels of the picture resized to cover the size
    flipped: bool  # left and right changed places, after the cut


def choose_frame(original: Size, size: Size, data: Data, rng: torch.Generator) -> Frame:
    """What to show of a picture that has the size `original`; always three draws from `rng`."""
    spare = [whole - side for whole, side in zip(_covering(original, size), size, strict=True)]
    where = torch.rand(3, generator=rng).tolist()
    if data.crop == "random":
        corner = (int(where[0] * (spare[0] + 1)), int(where[1] * (spare[1] + 1)))
    else:
        corner = (spare[0] // 2, spare[1] // 2)
    return Frame(original, corner, data.flip and where[2] < 0.5)


def fitted(image: Image.Image, size: Size, color: str) -> Image.Image:
    """The whole picture as large as `size` allows, in the middle of a ground of this color: cut to nothing."""
    return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=color)


def prepared(
    image: Image.Image, size: Size, data: Data, rng: torch.Generator, frame: Frame | None = None
) -> tuple[Tensor, Frame]:
    """An RGB picture resized to cover `size` and cut to it: (3, H, W) in [-1, 1], and what the tensor shows of it.

    Without `frame` it is chosen. Equal generators give equal cuts and color changes, so a pair stays a pair.
    """
    frame = frame or choose_frame(image.size, size, data, rng)
    pixels = _cut(image.convert("RGB"), size, frame)
    if data.color > 0:
        pixels = recolored(pixels, data.color, rng)
    return pixels.mul_(2).sub_(1), frame


def prepared_mask(mask: Image.Image, size: Size, frame: Frame) -> Tensor:
    """A mask cut and flipped as its picture was: (1, H, W), 0 where black to 1 where white.

    It may have been drawn in another resolution than the picture.
    """
    return _cut(mask.convert("L"), size, frame)


def recolored(pixels: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Pixels (3, H, W) in [0, 1] with random brightness, contrast, saturation and hue; `strength` is 0 to 1."""
    draws = torch.rand(4, generator=rng).mul_(2).sub_(1).mul_(strength).tolist()
    brightness, contrast, saturation, hue = (u * most for u, most in zip(draws, MOST.values(), strict=True))
    luma = torch.tensor(LUMA).view(3, 1, 1)
    pixels = (pixels * (1 + brightness)).clamp(0, 1)
    middle = (pixels * luma).sum(0).mean()
    pixels = (middle + (pixels - middle) * (1 + contrast)).clamp(0, 1)
    gray = (pixels * luma).sum(0, keepdim=True)
    pixels = (gray + (pixels - gray) * (1 + saturation)).clamp(0, 1)
    return torch.matmul(_hue_rotation(hue), pixels.flatten(1)).view_as(pixels).clamp(0, 1)


def _hue_rotation(turns: float) -> Tensor:
    """The matrix that turns the chroma plane of YIQ and leaves the luma as it is."""
    angle = torch.tensor(2 * pi * turns)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.eye(3)
    turn[1, 1], turn[1, 2], turn[2, 1], turn[2, 2] = cos, -sin, sin, cos
    to_yiq = torch.tensor(YIQ)
    rotation: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return rotation


def _covering(original: Size, size: Size) -> Size:
    """The size in which the whole picture just covers `size`."""
    scale = max(size[0] / original[0], size[1] / original[1])
    return max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale))


def _cut(image: Image.Image, size: Size, frame: Frame) -> Tensor:
    """The frame's part of a picture, resized in one go: a strip of 65,535 pixels never becomes a huge picture."""
    whole = _covering(frame.original, size)
    x, y = image.width / whole[0], image.height / whole[1]
    left, top = frame.corner
    right, bottom = min((left + size[0]) * x, image.width), min((top + size[1]) * y, image.height)
    box = (left * x, top * y, right, bottom)
    shown = image.resize(size, Image.Resampling.LANCZOS, box=box)
    if frame.flipped:
        shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = np.asarray(shown, dtype=np.float32) / 255
    return torch.from_numpy(values.reshape(size[1], size[0], -1)).permute(2, 0, 1).contiguous()
