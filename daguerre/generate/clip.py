"""A whole CLIP ready to compare pictures with words (arXiv:2103.00020): community files, and tintype's own.

Shape suffixes: N phrases, P width of the shared space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.clip_pair import Activation, Color, identify_clip
from ..checkpoints.identify import read_part
from ..checkpoints.tables import Config, blank
from ..files.reader import open_checkpoint
from ..models.clip import CLIPText
from ..runtime.device import pick_device
from ..runtime.precision import pick_dtype
from ..text.tokenizer import START, Tokenizer

CHUNK = 128  # phrases that are read at once


@dataclass(frozen=True, kw_only=True)
class CLIP:
    """Two networks into one space: the cosine of a picture's and a phrase's vector tells how well they go together."""

    text: CLIPText
    vision: nn.Module  # (B, 3, size, size), normalized, to (B, P)
    size: int  # pixels of a picture's side
    scale: float  # of cosines, before a softmax
    mean: Color
    std: Color
    name: str
    whole: bool = False  # pictures are laid whole on a white square, not cropped to it
    tokenizer: Tokenizer = field(default_factory=Tokenizer)

    @torch.no_grad()
    def of_phrases(self, phrases: Sequence[str]) -> Tensor:
        """Unit vectors (N, P), float32 on the CPU; what is longer than the context is cut off."""
        device, vectors = self.text.token.weight.device, []
        for first in range(0, len(phrases), CHUNK):
            pooled = self.text(self._ids(phrases[first : first + CHUNK]).to(device)).pooled
            vectors.append(F.normalize(pooled.float(), dim=-1).cpu())
        return torch.cat(vectors)

    @torch.no_grad()
    def of_picture(self, image: Image.Image) -> Tensor:
        """A unit vector (P,), float32 on the CPU."""
        weight = next(self.vision.parameters())
        seen: Tensor = self.vision(self.pixels(image)[None].to(weight))
        return F.normalize(seen[0].float(), dim=-1).cpu()

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture of mode RGB as the vision tower takes it, (3, size, size)."""
        values = np.array((squared if self.whole else cropped)(image.convert("RGB"), self.size), np.float32) / 255
        normal = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1)

    def _ids(self, phrases: Sequence[str]) -> Tensor:
        """Token ids, no longer than the longest phrase: attention is causal, so that padding after it is not seen."""
        most, end = self.text.config.context - 2, self.text.config.end_token
        rows = [[START, *self.tokenizer.encode(phrase)[:most], end] for phrase in phrases]
        longest = max(map(len, rows))
        return torch.tensor([row + [end] * (longest - len(row)) for row in rows])


def cropped(image: Image.Image, size: int) -> Image.Image:
    """The middle of a picture whose shorter side has become `size`: CLIP's own way."""
    short = min(image.size)
    if max(image.size) > 8 * short:  # a strip, of which the middle is all that will be left
        x, y = ((side - min(side, 8 * short)) // 2 for side in image.size)
        image = image.crop((x, y, image.width - x, image.height - y))
    width, height = image.size
    image = image.resize(
        (max(size, size * width // short), max(size, size * height // short)), Image.Resampling.BICUBIC
    )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def squared(image: Image.Image, size: int) -> Image.Image:
    """All of a picture in the middle of a white square."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    square = Image.new("RGB", (size, size), "white")
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return square


def load_clip(
    path: Path | str, *, device: str | None = None, dtype: str | None = None, activation: Activation | None = None
) -> CLIP:
    """A CLIP from a folder of transformers or OpenCLIP, or from a single file of either or of OpenAI.

    `activation` is for single files, which do not tell it. Raises CheckpointError for what is no whole CLIP.
    """
    checkpoint = open_checkpoint(path)
    pair = identify_clip(checkpoint, activation)
    number, towers = pick_dtype(where := pick_device(device), dtype), list[nn.Module]()
    configs: tuple[Config, ...] = pair.text, pair.vision
    for part, config in zip(pair.parts, configs, strict=True):
        tower, state = blank(config), read_part(checkpoint, part, config)
        tower.load_state_dict({name: value.to(number) for name, value in state.items()}, assign=True)
        towers.append(tower.eval().requires_grad_(False).to(where))
    text, vision = towers
    assert isinstance(text, CLIPText)
    return CLIP(
        text=text, vision=vision, size=pair.vision.size, scale=pair.scale, mean=pair.mean, std=pair.std,
        name=checkpoint.name,
    )  # fmt: skip
