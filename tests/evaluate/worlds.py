"""Toy pictures for judges: a concept is a direction of features, a style another, a drawing is a little of its own."""

import io
import zlib
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from daguerre.evaluate.illustrations import Illustration
from daguerre.evaluate.lite0 import Features

STYLES = {"round": "a", "square": "a", "dotted": "b", "striped": "c"}  # style words and their families


def illustrations(concepts: int = 30, split: str = "train") -> list[Illustration]:
    """Every concept in every style."""
    found = []
    for concept in range(concepts):
        for style, family in STYLES.items():
            label = f"thing {concept}"
            found.append(Illustration(len(found), f"a {label}, {style}", label, style, family, f"C{concept}", split))
    return found


def features(real: Sequence[Illustration], *, noise: float = 0.3, seed: int = 0) -> Features:
    """What a judge would see in one picture of each: its concept and drawing, and faintly its style."""
    random = torch.Generator().manual_seed(seed)
    top = torch.stack([_direction(item.concept, 1280) + _direction(item.concept + item.family, 1280) for item in real])
    middle = torch.stack([_direction(item.style, 160) for item in real])
    faint = 0.4 * middle + torch.randn(middle.shape, generator=random)
    return Features(faint, faint, top + noise * torch.randn(top.shape, generator=random))


def _direction(name: str, width: int) -> Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def png(color: tuple[int, int, int], side: int = 32) -> bytes:
    """A disk of one color."""
    image = Image.new("RGBA", (side, side))
    image.paste(color, (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
