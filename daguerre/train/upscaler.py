"""Training the upscaler on crisp drawings and what becomes of them: reduced, blurred, compressed, redrawn by a VAE."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ..data.pictures import Pictures
from ..files.durable import durable_write
from ..models.enlarger import Enlarger
from ..models.vae import VAE
from .autoencoder import gradient_difference
from .contact_sheet import contact_sheet
from .randomness import generator, normal

# Below this difference the loss is a square, else a line: most of a drawing is flat, and there it should not pull.
FLAT = 0.01
FILTERS = ("area", "bilinear", "bicubic")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is done to a crisp picture before the network sees it; shares are of the pictures of a batch."""

    crop: int = 40  # pixels of the network's input
    redrawn: float = 0.5  # share that comes out of the VAE, the others out of a filter
    latent_noise: float = 0.25  # largest strength of what is added to the latents, as a sampler's errors would be
    far: float = 0.3  # share of filtered ones that show twice as much of the picture, so that lines are thinner
    blur: float = 0.3
    compression: float = 0.3  # share that JPEG or WebP has spoiled
    recolor: float = 0.5  # share whose color channels are exchanged, half of these inverted: not all grounds are white
    edges: float = 0.5  # weight of the picture-gradient difference in the loss


class UpscalerRecipe:
    """The loop's recipe. `sharp` and `soft`: uint8 (N, 3, S, S) and what the VAE makes of it at S / scale."""

    def __init__(
        self,
        network: Enlarger,
        pictures: tuple[Tensor, Tensor],
        held: tuple[Tensor, Tensor],
        damage: Damage,
        batch: int,
        seed: int,
    ):
        self.trained, self.held, self.damage, self.batch, self.seed = network, held, damage, batch, seed
        self.sharp, self.soft = pictures

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        device = self.trained.conv_in.weight.device
        low, high = (torch.stack(side).to(device) for side in zip(*self._pairs(step, part), strict=True))
        made = self.trained(low.to(memory_format=torch.channels_last)).float()
        pixel = (made - high).square().add(FLAT**2).sqrt().mean()
        edges = gradient_difference(made, high)
        return pixel + self.damage.edges * edges, {"pixel": pixel.item(), "edges": edges.item()}

    def _pairs(self, step: int, part: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Input (3, crop, crop) and target of each place, both in [-1, 1]."""
        d = self.damage
        index = torch.randint(len(self.sharp), (self.batch,), generator=generator(self.seed, "pictures", step)).tolist()
        for i in part:
            rng = generator(self.seed, "damage", step, i)
            compressed, recolored = torch.rand(2, generator=rng).tolist()
            low, high = _turned(*self._crops(index[i], rng), rng)
            if recolored < d.recolor:
                order, sign = torch.randperm(3, generator=rng), 1 if recolored < d.recolor / 2 else -1
                low, high = low[order] * sign, high[order] * sign
            low = eight_bits(low)
            yield (compress(low, rng) if compressed < d.compression else low), high

    def _crops(self, number: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A part of a picture: soft, by the VAE or a filter, and sharp."""
        d, scale = self.damage, self.trained.config.scale
        soft, far, blur = torch.rand(3, generator=rng).tolist()
        times = 2 if soft >= d.redrawn and far < d.far and 2 * d.crop <= self.soft.shape[-1] else 1
        side = d.crop * times
        y, x = torch.randint(self.soft.shape[-1] - side + 1, (2,), generator=rng).tolist()
        high = _cut(self.sharp[number], y * scale, x * scale, side * scale)
        if soft < d.redrawn:
            return _cut(self.soft[number], y, x, side), high
        high = F.avg_pool2d(high, times) if times > 1 else high
        low = reduced(high, scale, FILTERS[int(torch.randint(len(FILTERS), (), generator=rng))])
        return (blurred(low, 0.3 + 0.5 * blur / d.blur) if blur < d.blur else low), high

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """PSNR in dB on held-out pictures that were reduced, and on those that the VAE redrew, and of bicubic."""
        sharp, soft = self.held
        high, scale = sharp.float().div(127.5).sub(1), self.trained.config.scale
        inputs = {"reduced": torch.stack([reduced(x, scale, "area") for x in high]), "redrawn": soft / 127.5 - 1}
        found = dict[str, float]()
        for name, low in inputs.items():
            plain = F.interpolate(low, scale_factor=scale, mode="bicubic")
            found |= {name: psnr(self._enlarged(low), high), f"{name}, bicubic": psnr(plain, high)}
        return found

    def sample(self, path: Path) -> None:
        """In columns: what the VAE made by bicubic and by the network, and the original; the middle of each."""
        sharp, soft = (side[:8] for side in self.held)
        low, n = soft / 127.5 - 1, sharp.shape[-1]
        plain = F.interpolate(low, scale_factor=self.trained.config.scale, mode="bicubic")
        rows = torch.cat([plain, self._enlarged(low), sharp / 127.5 - 1])[..., n // 4 : -n // 4, n // 4 : -n // 4]
        contact_sheet(rows, path, columns=len(low))

    def _enlarged(self, low: Tensor) -> Tensor:
        device = self.trained.conv_in.weight.device
        return torch.cat([self.trained(x.to(device)).cpu() for x in torch.split(low, 4)])


def psnr(made: Tensor, real: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, the mean over pictures in [-1, 1]."""
    error = (made.clamp(-1, 1) - real).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    return (10 * torch.log10(4 / error)).mean().item()


def reduced(picture: Tensor, scale: int, mode: str) -> Tensor:
    """A picture (3, H, W) made smaller by one of FILTERS."""
    if mode == "area":
        return F.avg_pool2d(picture, scale)
    size = [n // scale for n in picture.shape[1:]]
    return F.interpolate(picture[None], size, mode=mode, antialias=True)[0]


def blurred(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels, below 1."""
    row = torch.exp(-torch.arange(-2, 3).square() / (2 * sigma**2))
    kernel = (row[:, None] * row).div(row.sum() ** 2).expand(3, 1, 5, 5)
    return F.conv2d(F.pad(picture[None], (2, 2, 2, 2), "replicate"), kernel, groups=3)[0]


def eight_bits(picture: Tensor) -> Tensor:
    """Rounded as a file would be."""
    return picture.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def compress(picture: Tensor, rng: torch.Generator) -> Tensor:
    """What JPEG or WebP of a quality from 60 to 95 leaves."""
    pixels = picture.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    kind, quality = ("JPEG", "WEBP")[int(torch.randint(2, (), generator=rng))], torch.randint(60, 96, (), generator=rng)
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, kind, quality=int(quality))
    with Image.open(memory) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(127.5).sub(1)


def _cut(pixels: Tensor, y: int, x: int, side: int) -> Tensor:
    return pixels[:, y : y + side, x : x + side].float().div(127.5).sub(1)


def _turned(low: Tensor, high: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both in one of the eight ways to lay a square."""
    flip, turns = torch.randint(2, (), generator=rng), int(torch.randint(4, (), generator=rng))
    pair = (low.flip(-1), high.flip(-1)) if flip else (low, high)
    return pair[0].rot90(turns, (1, 2)), pair[1].rot90(turns, (1, 2))


@torch.no_grad()
def redrawn(vae: VAE, pictures: Pictures, scale: int, noise: float, cache: Path) -> Tensor:
    """What the VAE makes of pictures reduced by `scale`: uint8 (N, 3, S / scale, S / scale).

    Each picture's latents get noise of a strength of its own, up to `noise`. The file `cache` is read where it is
    there, and else written.
    """
    if cache.exists():
        return load_file(cache)["soft"]
    made, device, size = [], vae.quant.weight.device, pictures.pixels.shape[-1]
    for part in torch.split(torch.arange(len(pictures)), 16):
        z = vae.encode(F.avg_pool2d(pictures.batch(part), scale).to(device))
        places = range(int(part[0]), int(part[-1]) + 1)
        strength = noise * (part * math.sqrt(5) % 1)[:, None, None, None]  # even, and unlike any order of the table
        z = z + strength.to(device) * normal(0, "latents", 0, places, tuple(z.shape[1:])).to(device)
        made.append(vae.decode(z).float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu())
    soft = torch.cat(made)
    assert soft.shape[-1] == size // scale
    durable_write(cache, lambda target: save_file({"soft": soft}, target))
    return soft
