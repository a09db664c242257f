"""Sample pictures of a run as one PNG."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..files.durable import durable_write


def contact_sheet(pictures: Tensor, path: Path, columns: int, info: PngInfo | None = None) -> None:
    """Writes pictures (N, 3, H, W) in [-1, 1] row by row, and what to say of them."""
    n, _, height, width = pictures.shape
    sheet = Image.new("RGB", (columns * width, -(-n // columns) * height), "white")
    for i, picture in enumerate(pictures.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()):
        sheet.paste(Image.fromarray(picture.numpy()), (i % columns * width, i // columns * height))
    durable_write(path, lambda target: sheet.save(target, "PNG", pnginfo=info))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float().div_(127.5).sub_(1)
