"""Pictures enlarged by a small network, in tiles: any size, with transparency, in bounded memory."""

from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..files.checkpoint import CheckpointError
from ..files.reader import SETTINGS, open_checkpoint
from ..models.enlarger import Enlarger, EnlargerConfig
from ..provenance.record import UsedUpscaler, pixel_sha256
from ..request import RequestError
from .drawing import Picture

MAX_PIXELS = 64_000_000  # of the result
TILE = 256  # pixels of the input, along one side
LARGEST = 256  # of any number in a network's config


@dataclass(frozen=True)
class Upscaler:
    """A network that enlarges pictures, and how records call it."""

    network: Enlarger
    name: str
    sha256: str

    def used(self, scale: int) -> UsedUpscaler:
        """What a record says of its use."""
        return UsedUpscaler(scale=scale, name=self.name, sha256=self.sha256)


def load_upscaler(path: Path | None = None) -> Upscaler:
    """An upscaler from its file, the built-in one by default. Raises CheckpointError."""
    path = path or built_in("upscaler")
    network = load_enlarger(path)
    if network.config.channels != 3:
        raise CheckpointError(path, "it decodes latents and enlarges no pictures", remedy="Name an upscaler")
    return Upscaler(network, path.stem, open_checkpoint(path).sha256)


def built_in(name: str) -> Path:
    """The file of a small network that comes with daguerre: upscaler or preview."""
    return Path(str(files("daguerre") / "weights" / f"{name}.safetensors"))


def load_enlarger(path: Path) -> Enlarger:
    """An upscaler or preview decoder, as `daguerre train` writes them. Raises CheckpointError for any other file."""
    checkpoint = open_checkpoint(path)
    settings = checkpoint.configs.get("enlarger", {})
    names = [f.name for f in fields(EnlargerConfig)]
    numbers = [settings.get(name) for name in names if name != "residual"]
    if sorted(settings) != sorted(names) or not all(type(n) is int and 1 <= n <= LARGEST for n in numbers):
        reason = "this is no upscaler or preview decoder of daguerre"
        raise CheckpointError(path, reason, key=SETTINGS, remedy="Train one: see recipes/tintype-upscaler.toml")
    with torch.device("meta"):
        network = Enlarger(EnlargerConfig(**settings))
    state = network.state_dict()
    for key in sorted(state.keys() | checkpoint.tensors.keys()):
        if key not in state or key not in checkpoint.tensors or state[key].shape != checkpoint.tensors[key].shape:
            raise CheckpointError(path, "the weights do not fit the network that the file tells of", key=key)
    network.load_state_dict({key: checkpoint.tensor(key).float() for key in state}, assign=True)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def upscale(image: Image.Image, scale: int, network: Enlarger, tile: int = TILE) -> Image.Image:
    """A picture `scale` times as large along each side: RGB, or RGBA where it is transparent.

    A scale below the network's own is the mean of its pixels. Tiles overlap by all that can decide a pixel, so that
    they give what the picture in one piece would. Raises RequestError for a scale that does not divide the network's,
    and for a picture that would become too large.
    """
    own = network.config.scale
    if scale < 1 or own % scale:
        raise RequestError(f"scale is {scale}; this upscaler enlarges {own} times, or by a divisor of that")
    width, height = (side * scale for side in image.size)
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
        raise RequestError(f"the picture would have {width} x {height} pixels; {limit}")
    pixels = np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    fold, margin = network.config.fold, network.config.margin
    odd = [(0, -side % fold) for side in pixels.shape[:2]]
    padded = torch.from_numpy(np.pad(pixels, [*odd, (0, 0)], "edge"))
    made = np.empty((padded.shape[0] * scale, padded.shape[1] * scale, padded.shape[2]), np.uint8)
    step = tile - tile % fold
    for y in range(0, padded.shape[0], step):
        for x in range(0, padded.shape[1], step):
            top, left = max(0, y - margin), max(0, x - margin)
            part = padded[top : y + step + margin, left : x + step + margin]
            large = _enlarged(part, own // scale, network)
            inner = large[(y - top) * scale :, (x - left) * scale :][: step * scale, : step * scale]
            made[y * scale : (y + step) * scale, x * scale : (x + step) * scale] = inner.numpy()
    result = Image.fromarray(made[:height, :width])
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"RGB ":
        result.info["icc_profile"] = profile
    return result


def upscaled(picture: Picture, scale: int, upscaler: Upscaler) -> Picture:
    """A drawn picture enlarged, its record telling of it."""
    image = upscale(picture.image, scale, upscaler.network)
    used = (*picture.record.upscalers, upscaler.used(scale))
    record = replace(picture.record, upscalers=used, pixel_sha256=pixel_sha256(image))
    return replace(picture, image=image, record=record)


def _enlarged(pixels: Tensor, shrink: int, network: Enlarger) -> Tensor:
    """8-bit pixels (H, W, 3 or 4) enlarged by the network and reduced `shrink` times."""
    x = pixels.permute(2, 0, 1).float().div(255)
    if len(x) == 3:
        y = _run(x[None], shrink, network)[0]
    else:  # the network knows opaque pictures only: one lies on white, one is the opacity as gray
        on_white = x[:3] * x[3:] + 1 - x[3:]
        laid, opacity = _run(torch.stack([on_white, x[3:].expand(3, -1, -1)]), shrink, network)
        alpha = opacity.mean(dim=0, keepdim=True)
        color = 1 - (1 - laid) / alpha.clamp_min(1 / 255)
        y = torch.cat([color.clamp(0, 1), alpha])
    return y.mul(255).round().byte().permute(1, 2, 0)


def _run(x: Tensor, shrink: int, network: Enlarger) -> Tensor:
    """(B, 3, H, W) to (B, 3, scale * H / shrink, scale * W / shrink), all in [0, 1]."""
    weight = network.conv_in.weight
    y = network((x * 2 - 1).to(weight.device, memory_format=torch.channels_last)).cpu()
    return F.avg_pool2d(y.clamp(-1, 1), shrink).add(1).div(2)
