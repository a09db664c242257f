"""Pictures that a model draws, kept in a folder: what is there already is not drawn again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..families.model import Model
from ..files.durable import durable_bytes
from ..generate.drawing import Picture
from ..generate.text_to_image import text_to_image
from ..provenance import png
from ..provenance.record import RecordError
from ..request import TextToImage


@dataclass(frozen=True)
class Asked:
    """One picture to be drawn in the model's own way."""

    prompt: str
    seed: int = 1


class Drawings:
    """The pictures of one model in one folder, each a PNG with its record.

    `steps` 0: as the model likes it. A picture belongs to the model's hash and its whole request; files of other
    models may lie beside it.
    """

    def __init__(self, model: Model, folder: Path, steps: int = 0):
        self.model, self.folder = model, folder
        self.plain = replace(model.defaults, steps=steps or model.defaults.steps)

    def draw(self, asked: Sequence[Asked]) -> Iterator[Image.Image]:
        """The pictures, RGB, in their order; each is on the disk before the next is begun."""
        for one in asked:
            request = replace(self.plain, prompt=one.prompt, seed=one.seed)
            path = self._path(request)
            yield self._kept(path, request) or self._drawn(path, request)

    def missing(self, asked: Sequence[Asked]) -> int:
        """How many of these are still to be drawn."""
        requests = {replace(self.plain, prompt=one.prompt, seed=one.seed) for one in asked}
        return sum(not self._path(request).exists() for request in requests)

    def _path(self, request: TextToImage) -> Path:
        told = json.dumps([self.model.sha256, asdict(request)], sort_keys=True)
        return self.folder / f"{sha256(told.encode()).hexdigest()[:20]}.png"

    def _kept(self, path: Path, request: TextToImage) -> Image.Image | None:
        """The picture of an earlier run, if the file is whole and says that it is this one."""
        try:
            record = png.read(path)[0]
            if record is None or (record.model_sha256, record.request) != (self.model.sha256, request):
                return None
            with Image.open(path, formats=["PNG"]) as stored:
                return stored.convert("RGB")
        except (OSError, png.PNGError, RecordError):
            return None

    def _drawn(self, path: Path, request: TextToImage) -> Image.Image:
        for event in text_to_image(self.model, request):
            if isinstance(event, Picture):
                durable_bytes(path, png.encode(event.image, event.record))
                return event.image
        raise AssertionError("unreachable: a request for one picture gives one")


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div_(127.5).sub_(1)


@torch.no_grad()
def through_autoencoder(model: Model, picture: Tensor) -> Tensor:
    """A picture (3, H, W) in [-1, 1] as the model's autoencoder brings it back, whose losses bound what it can draw."""
    with model.on_device("vae"):
        weights = model.vae.quant.weight
        latents = model.vae.encode(picture[None].to(weights.device, weights.dtype))
    return model.decode(latents)[0].float().cpu().clamp(-1, 1)
