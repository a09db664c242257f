"""Pictures enlarged by a small network, in tiles: any size, with transparency, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..checkpoints.upscalers import read_upscaler
from ..files.built_in import built_in
from ..files.checkpoint import CheckpointError
from ..files.reader import SETTINGS, open_checkpoint
from ..models.enlarger import Enlarger, EnlargerConfig
from ..models.esrgan import Compact, RRDBNet
from ..provenance.record import UsedUpscaler, pixel_sha256
from ..request import RequestError
from ..runtime.device import pick_device
from .drawing import Picture

MAX_PIXELS = 64_000_000  # of the result
TILE = 256  # pixels of the input, along one side
FEATHER = 16  # pixels of the input over which tiles pass into one another
LARGEST_SCALE = 16
FILTERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
BUILT_IN = "built-in"
LARGEST = 256  # of any number in a network's config
SECTION = "enlarger"  # of the settings in a file of daguerre's own
Network = Enlarger | RRDBNet | Compact


@dataclass(frozen=True)
class Upscaler:
    """A network that enlarges pictures, and how records call it."""

    network: Network
    name: str
    sha256: str

    def used(self, scale: float) -> UsedUpscaler:
        """What a record says of its use."""
        return UsedUpscaler(scale=int(scale) if scale == int(scale) else scale, name=self.name, sha256=self.sha256)


def load_upscaler(path: Path | None = None, device: str | None = None) -> Upscaler:
    """An upscaler from its file: one of daguerre's, the built-in one by default, or one of ESRGAN's family.

    Those are large, and run on the best device there is, others on the CPU, if `device` does not say where. Raises
    CheckpointError.
    """
    path = path or built_in("upscaler")
    checkpoint = open_checkpoint(path)
    if SECTION in checkpoint.configs:
        enlarger = load_enlarger(path)
        if enlarger.config.channels != 3:
            raise CheckpointError(path, "it decodes latents and enlarges no pictures", remedy="Name an upscaler")
        return Upscaler(enlarger.to(pick_device(device or "cpu")), path.stem, checkpoint.sha256)
    return Upscaler(read_upscaler(checkpoint).to(pick_device(device)), path.stem, checkpoint.sha256)


def check_upscaler(name: str, told: str = "upscaler", besides: Iterable[str] = ()) -> None:
    """Raises RequestError for a name that is no way to enlarge, none of those besides, and no file."""
    known = [*besides, *FILTERS, BUILT_IN]
    if name not in known and not Path(name).is_file():
        raise RequestError(f"{told} is {name!r}; give an upscaler's file, or one of {', '.join(known)}")


def find_upscaler(name: str) -> Upscaler | None:
    """The upscaler of a file, or the built-in one; None for a filter. Raises RequestError and CheckpointError."""
    check_upscaler(name)
    return None if name in FILTERS else load_upscaler(None if name == BUILT_IN else Path(name))


def enlarged_to(image: Image.Image, size: tuple[int, int], name: str, upscaler: Upscaler | None) -> Image.Image:
    """A picture at another size by the way of this name, which found the upscaler; another shape is cut off evenly."""
    scale = max(new / old for new, old in zip(size, image.size, strict=True))
    if upscaler and scale > 1:
        image = upscale(image, min(scale, LARGEST_SCALE), upscaler.network)
    return ImageOps.fit(image, size, FILTERS.get(name, Image.Resampling.LANCZOS))


def load_enlarger(path: Path) -> Enlarger:
    """An upscaler or preview decoder, as `daguerre train` writes them. Raises CheckpointError for any other file."""
    checkpoint = open_checkpoint(path)
    settings = checkpoint.configs.get(SECTION, {})
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
def upscale(image: Image.Image, scale: float, network: Network, tile: int = TILE) -> Image.Image:
    """A picture `scale` times as large along each side: RGB, or RGBA where it is transparent.

    A scale that divides the network's is the mean of its pixels; for any other the network is used as often as it
    takes to reach it, at least once, and the result is resized (Lanczos). Raises RequestError for a scale below 1,
    and for a picture that is or becomes too large.
    """
    own = network.config.scale
    if not 1 <= scale <= LARGEST_SCALE:
        raise RequestError(f"scale is {scale:g}; it must be a number from 1 to {LARGEST_SCALE}")
    size = round(image.width * scale), round(image.height * scale)
    _check_size(*size)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if own % scale == 0:
        made = _by_tiles(image, int(scale), network, tile)
    else:
        made = image
        while made is image or (own > 1 and made.width < size[0]):
            _check_size(made.width * own, made.height * own)
            made = _by_tiles(made, own, network, tile)
        made = made.resize(size, Image.Resampling.LANCZOS)
    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"RGB ":
        made.info["icc_profile"] = profile
    return made


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million pixels"
        raise RequestError(f"the picture would have {width} x {height} pixels; {limit}")


def _by_tiles(image: Image.Image, scale: int, network: Network, tile: int) -> Image.Image:
    """A picture enlarged by a divisor of the network's scale.

    Tiles overlap by all that can decide a pixel, so that they give what the picture in one piece would. Where that is
    more than a tile is worth, they see less of their surroundings, and pass gradually into one another.
    """
    own, fold, margin = network.config.scale, network.config.fold, network.config.margin
    feather = 0 if margin <= tile // 2 else FEATHER
    margin = min(margin, 2 * FEATHER) if feather else margin
    pixels = np.array(image)
    height, width = pixels.shape[:2]
    padded = torch.from_numpy(np.pad(pixels, [(0, -height % fold), (0, -width % fold), (0, 0)], "edge"))
    made = np.empty((padded.shape[0] * scale, padded.shape[1] * scale, padded.shape[2]), np.uint8)
    step = tile - tile % fold
    for y in range(0, padded.shape[0], step):
        for x in range(0, padded.shape[1], step):
            top, left = max(0, y - margin), max(0, x - margin)
            part = padded[top : y + step + margin, left : x + step + margin]
            large = _enlarged(part, own // scale, network).numpy()
            over = min(y, feather), min(x, feather)  # pixels of earlier tiles that this one passes into
            begin_y, begin_x = y - over[0], x - over[1]
            inner = large[(begin_y - top) * scale : (y - top + step) * scale]
            inner = inner[:, (begin_x - left) * scale : (x - left + step) * scale]
            place = made[begin_y * scale : (y + step) * scale, begin_x * scale : (x + step) * scale]
            share = _share((len(inner), inner.shape[1]), (over[0] * scale, over[1] * scale))
            place[:] = inner if share is None else np.rint(place + share * (inner.astype(np.float32) - place))
    return Image.fromarray(made[: height * scale, : width * scale])


def _share(size: tuple[int, int], over: tuple[int, int]) -> np.ndarray | None:
    """What a tile has of each of its pixels (H, W, 1), rising from 0 to 1 over its first rows and columns."""
    if not any(over):
        return None
    down, across = (
        np.minimum(1, (np.arange(side, dtype=np.float32) + 0.5) / max(rows, 0.5))
        for side, rows in zip(size, over, strict=True)
    )
    share: np.ndarray = down[:, None, None] * across[:, None]
    return share


def upscaled(picture: Picture, scale: float, upscaler: Upscaler) -> Picture:
    """A drawn picture enlarged, its record telling of it."""
    image = upscale(picture.image, scale, upscaler.network)
    used = (*picture.record.upscalers, upscaler.used(scale))
    record = replace(picture.record, upscalers=used, pixel_sha256=pixel_sha256(image))
    return replace(picture, image=image, record=record)


def _enlarged(pixels: Tensor, shrink: int, network: Network) -> Tensor:
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


def _run(x: Tensor, shrink: int, network: Network) -> Tensor:
    """(B, 3, H, W) to (B, 3, scale * H / shrink, scale * W / shrink), all in [0, 1]."""
    weight = next(network.parameters())
    x = x.to(weight.device, memory_format=torch.channels_last)
    y = network(x * 2 - 1).add(1).div(2) if isinstance(network, Enlarger) else network(x)
    return F.avg_pool2d(y.cpu().clamp(0, 1), shrink)
