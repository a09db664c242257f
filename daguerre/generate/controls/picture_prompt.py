"""Pictures as prompts, by an IP-Adapter (arXiv:2308.06721) and the CLIP that it knows pictures by."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ...checkpoints.clip_pair import MEAN, STD
from ...checkpoints.identify import read_part
from ...checkpoints.layout import Part
from ...checkpoints.settings import complete
from ...checkpoints.tables import blank, infer, shapes
from ...families.model import Model
from ...files.checkpoint import Checkpoint, CheckpointError
from ...files.reader import open_checkpoint
from ...models.attention import attending
from ...models.ip_adapter import IPAdapter
from ...models.vision import CLIPVision, CLIPVisionConfig
from ...provenance.record import UsedControl
from ...request import RequestError
from ..clip import cropped
from ..drawing import Drawing
from ..given import opaque
from .networks import Loaded
from .steering import EVERY_STEP, Call, Inner, Span, steered

FOLDER = "image_encoder"  # where the authors of IP-Adapters put their CLIP, beside the adapter or in models/ beside it


def load_vision(path: Path | str, model: Model) -> Loaded:
    """A CLIP's vision tower, alone or of a whole CLIP, on the model's device. Raises CheckpointError."""
    checkpoint = open_checkpoint(path)
    for layout in ("hf", "openclip"):
        part = Part("vision", layout)
        if shapes(checkpoint, part).has("summary"):
            config = complete(checkpoint, part, infer(checkpoint, part))
            network = blank(config)
            assert isinstance(network, CLIPVision)
            dtype = model.unet.conv_out.weight.dtype
            state = {key: value.to(dtype) for key, value in read_part(checkpoint, part, config).items()}
            network.load_state_dict(state, assign=True)
            network = network.eval().requires_grad_(False).to(model.device)
            return Loaded(kind="CLIP", network=network, name=checkpoint.name, sha256=vision_sha256(checkpoint))
    raise CheckpointError(checkpoint.path, "there is no vision tower of a CLIP in it", remedy="Name an image encoder")


def vision_sha256(checkpoint: Checkpoint) -> str:
    """The identity of an image encoder; one file is the same in whatever folder it lies."""
    return (open_checkpoint(checkpoint.files[0]) if len(checkpoint.files) == 1 else checkpoint).sha256


def vision_beside(adapter: Path) -> Path:
    """The image encoder that lies where an IP-Adapter's authors put it. Raises RequestError where none does."""
    places = [adapter.parent / FOLDER, adapter.parent.parent / "models" / FOLDER]
    for place in places:
        if place.is_dir():
            return place
    raise RequestError(
        f"{adapter}: an IP-Adapter needs the CLIP that it sees by; name it with --image-encoder, or put it at "
        f"{places[0]}"
    )


@dataclass(frozen=True, kw_only=True)
class PicturePrompt:
    """A picture that is attended to beside the prompt."""

    loaded: Loaded
    vision: Loaded  # the CLIP that it is seen by
    image: Image.Image
    weight: float = 1.0
    span: Span = EVERY_STEP

    def __post_init__(self) -> None:
        adapter, tower = self.loaded.network, self.vision.network
        if not isinstance(adapter, IPAdapter):
            raise RequestError(f"{self.loaded.name} is a {self.loaded.kind} and no IP-Adapter; give its kind of hint")
        if not isinstance(tower, CLIPVision):
            raise RequestError(f"{self.vision.name} is a {self.vision.kind} and sees no pictures; name a CLIP")
        seen = tower.config
        gives = seen.width if adapter.config.depth else seen.projection
        if gives != adapter.config.features:
            raise RequestError(
                f"{self.loaded.name} sees pictures by {adapter.config.features} features and the image encoder gives "
                f"{gives}; name the encoder that it was trained with"
            )
        if not 0 <= self.weight <= 2:
            raise RequestError(f"a picture's weight is {self.weight:g}; it must be a number from 0 to 2")

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing with the picture beside its prompt, and none beside the negative one."""
        adapter, tower = self.loaded.network, self.vision.network
        assert isinstance(adapter, IPAdapter)
        assert isinstance(tower, CLIPVision)
        unet, active = drawing.model.unet, self.span.of(drawing)
        positive, negative = self._tokens(adapter, tower)

        def steer(inner: Inner, call: Call) -> Tensor:
            if not active(call.t):
                return inner(call)
            share = call.side.to(positive)[:, None, None]
            with attending(unet, adapter.change(unet, share * positive + (1 - share) * negative, self.weight)):
                return inner(call)

        told = UsedControl(
            kind=self.loaded.kind, module="CLIP", name=self.loaded.name, sha256=self.loaded.sha256,
            encoder=self.vision.sha256, weight=self.weight, start=self.span.start, end=self.span.end,
        )  # fmt: skip
        yield steered(drawing, steer, told, self.image)

    def _tokens(self, adapter: IPAdapter, tower: CLIPVision) -> tuple[Tensor, Tensor]:
        """(1, N, D) of the picture, and of none: no features, or those of a picture that is gray to the tower."""
        pixels = seen(opaque(self.image), tower.config).to(tower.projection.weight)
        if adapter.config.depth:
            states = penultimate(tower, torch.cat([pixels, torch.zeros_like(pixels)]))
        else:
            vector = tower(pixels)
            states = torch.cat([vector, torch.zeros_like(vector)])
        positive, negative = adapter.project(states).chunk(2)
        return positive, negative


def seen(image: Image.Image, config: CLIPVisionConfig) -> Tensor:
    """A picture of mode RGB as CLIP sees it, (1, 3, size, size)."""
    values = np.array(cropped(image, config.size), np.float32) / 255
    normal = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal).permute(2, 0, 1)[None]


def penultimate(vision: CLIPVision, pixels: Tensor) -> Tensor:
    """What goes into a tower's last layer (B, T, D): its patches and its summary."""
    found: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0])

    hook = vision.layers[-1].register_forward_pre_hook(keep)
    try:
        vision(pixels)
    finally:
        hook.remove()
    return found[0]
