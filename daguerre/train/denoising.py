"""Training the U-Net: predict v (arXiv:2202.00512) from noisy latents and a caption."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.captions import pick
from ..diffusion.denoiser import Cond
from ..diffusion.schedule import NoiseLevels
from ..models.unet import UNet
from .randomness import generator

Embed = Callable[[list[str]], Cond]  # captions -> what steers the U-Net, without gradient
Draw = Callable[[Path], None]  # sample pictures of the U-Net into a PNG


@dataclass(frozen=True)
class Latents:
    """`scaled`: (N, C, H, W), unit variance; `rows`: what is known of each picture."""

    scaled: Tensor
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Objective:
    batch: int
    seed: int
    # min-SNR, arXiv:2303.09556: no noise level counts more than this signal-to-noise ratio. None: the error of v as it
    # is, for a short run; min-SNR gives the noisiest levels, where a picture's layout is decided, 1 % of the weight.
    gamma: float | None = None
    drop: float = 0.1  # share of captions emptied, for guidance (arXiv:2207.12598)


class DenoisingRecipe:
    """The loop's recipe for the U-Net."""

    def __init__(self, unet: UNet, data: Latents, levels: NoiseLevels, embed: Embed, draw: Draw, objective: Objective):
        self.trained = unet
        self.data, self.levels, self.embed, self.draw = data, levels, embed, draw
        self.objective = objective

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        size, count = self.objective.batch, len(self.levels.sigmas)
        rng = generator(self.objective.seed, "batch", step)
        index = torch.randint(len(self.data.rows), (size,), generator=rng)
        dropped = (torch.rand(size, generator=rng) < self.objective.drop).tolist()
        captions = [
            "" if drop else pick(self.data.rows[i], rng) for i, drop in zip(index.tolist(), dropped, strict=True)
        ]
        x0 = self.data.scaled[index]
        # One timestep per stratum: the same distribution as independent draws, with less noise in the gradient.
        t = (torch.arange(size) + torch.rand(size, generator=rng)) / size * count
        t = t.long().clamp(max=count - 1)  # the last may round up
        noise = torch.randn(x0.shape, generator=rng)
        error = self.error(x0, t, noise, self.embed(captions))
        low, high = (half.mean().item() for half in error.tensor_split(2))
        return error.mean(), {"low": low, "high": high}

    def error(self, x0: Tensor, t: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """Weighted squared error of v per picture, (B,); `t`: integer timesteps."""
        sigma = self.levels.sigmas[t].reshape(-1, 1, 1, 1)
        alpha = 1 / (sigma.square() + 1).sqrt()
        noisy = alpha * (x0 + sigma * noise)
        v = alpha * (noise - sigma * x0)
        predicted: Tensor = self.trained(noisy, t.float(), cond.tokens, cond.vector)
        error = (predicted - v).square().mean(dim=(1, 2, 3))
        if self.objective.gamma is None:
            return error
        snr = sigma.flatten() ** -2
        return error * snr.clamp(max=self.objective.gamma) / (snr + 1)

    def sample(self, path: Path) -> None:
        self.draw(path)
