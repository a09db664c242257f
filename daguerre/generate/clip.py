"""A whole CLIP ready to compare pictures with words (arXiv:2103.00020): community files, and tintype's own.

Shape suffixes: N phrases, P width of the shared space.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.clip_pair import Activation, Color, identify_clip
from ..checkpoints.identify import identify, read_component, read_part
from ..checkpoints.tables import Config, blank
from ..files.checkpoint import CheckpointError
from ..files.reader import SETTINGS, open_checkpoint
from ..models.clip import CLIPText
from ..models.vision import ConvVision, ConvVisionConfig
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
        values = np.array((padded if self.whole else cropped)(image.convert("RGB"), self.size), np.float32) / 255
        normal = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1)

    def sha256(self) -> str:
        """Of the text tower's weights in half precision: what a vision tower has to have been trained against."""
        state = self.text.state_dict()
        return hashlib.sha256(
            b"".join(state[name].half().cpu().numpy().tobytes() for name in sorted(state))
        ).hexdigest()

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


def padded(image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """All of a picture in the middle of a white square."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (size, size), "white")
    square.paste(image.resize((width, height), resampling), ((size - width) // 2, (size - height) // 2))
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


def load_towers(model: Path | str, vision: Path, *, device: str | None = None) -> tuple[CLIP, dict[str, list[str]]]:
    """The text encoder of a model file and a small vision tower that `daguerre train` made for it, and the lists of
    phrases that it has learned, by name.

    Raises CheckpointError for a file that is no such tower, or that was trained for another text encoder.
    """
    clip, (tower, told) = text_alone(model, device=device), load_tower(vision)
    if told["text"] != (own := clip.sha256()):
        reason = f"it was trained for another text encoder ({told['text'][:10]}) than that of {model} ({own[:10]})"
        raise CheckpointError(
            vision, reason, remedy="Train it anew by recipes/tintype-vision.toml, or name a CLIP with --clip"
        )
    where = clip.text.token.weight.device
    lists = {name: list(map(str, phrases)) for name, phrases in told["lists"].items()}
    return replace(clip, vision=tower.to(where), size=tower.config.size, scale=told["scale"]), lists


def text_alone(model: Path | str, *, device: str | None = None) -> CLIP:
    """The first text encoder of a model file as a CLIP that sees nothing yet."""
    checkpoint = open_checkpoint(model)
    identity = identify(checkpoint)
    if not identity.text:
        raise CheckpointError(checkpoint.path, "there is no text encoder in it", remedy="Name a whole model")
    text = CLIPText(identity.text[0])
    text.load_state_dict({k: v.float() for k, v in read_component(checkpoint, identity, "text").items()})
    text.eval().requires_grad_(False).to(pick_device(device))
    half = (0.5, 0.5, 0.5)
    return CLIP(
        text=text, vision=nn.Identity(), size=0, scale=100.0, mean=half, std=half, name=checkpoint.name, whole=True
    )


def load_tower(path: Path) -> tuple[ConvVision, Mapping[str, Any]]:
    """A small vision tower and what its file tells of it: `text`, `scale`, `lists`. Raises CheckpointError."""
    checkpoint = open_checkpoint(path)
    told = checkpoint.configs.get("vision", {})
    try:
        config = ConvVisionConfig(**{f.name: _sizes(told["network"][f.name]) for f in fields(ConvVisionConfig)})
        sound = isinstance(told["text"], str) and 0 < told["scale"] < 1e4 and all(map(_is_list, told["lists"].values()))
        sound = sound and len(config.widths) == len(config.blocks)
    except (KeyError, TypeError, AttributeError, ValueError):
        sound = False
    if not sound:
        reason = "this is no vision tower of daguerre"
        raise CheckpointError(path, reason, key=SETTINGS, remedy="Train one: see recipes/tintype-vision.toml")
    with torch.device("meta"):
        network = ConvVision(config)
    state = network.state_dict()
    for key in sorted(state.keys() | checkpoint.tensors.keys()):
        if key not in state or key not in checkpoint.tensors or state[key].shape != checkpoint.tensors[key].shape:
            raise CheckpointError(path, "the weights do not fit the network that the file tells of", key=key)
    network.load_state_dict({key: checkpoint.tensor(key).float() for key in state}, assign=True)
    return network.eval().requires_grad_(False), told


def _sizes(value: Any) -> Any:
    """A number, or a tuple of numbers, of a network's config; raises ValueError for what no network here has."""
    numbers = value if isinstance(value, list) else [value]
    if not 0 < len(numbers) <= 8 or not all(type(n) is int and 1 <= n <= 1024 for n in numbers):
        raise ValueError(value)
    return tuple(numbers) if isinstance(value, list) else value


def _is_list(phrases: Any) -> bool:
    return isinstance(phrases, list) and bool(phrases) and all(isinstance(phrase, str) for phrase in phrases)
