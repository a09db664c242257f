"""Training the U-Net: predict v (arXiv:2202.00512) from noisy latents and a caption, min-SNR weighted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.captions import pick
from ..diffusion.schedule import NoiseLevels
from ..models.unet import UNet
from .randomness import generator

Embed = Callable[[list[str]], Tensor]  # captions -> text tokens (B, T, D), without gradient
Draw = Callable[[UNet, Path], None]  # sample pictures into a PNG


@dataclass(frozen=True)
class Latents:
    """`scaled`: (N, C, H, W), unit variance; `rows`: what is known of each picture."""

    scaled: Tensor
    rows: Sequence[dict[str, object]]


@dataclass(frozen=True, kw_only=True)
class Objective:
    gamma: float = 5.0  # min-SNR, arXiv:2303.09556: no noise level counts more than this signal-to-noise ratio
    drop: float = 0.1  # share of captions emptied, for guidance (arXiv:2207.12598)


class DenoisingRecipe:
    def __init__(self, unet: UNet, data: Latents, levels: NoiseLevels, embed: Embed, draw: Draw):
        self.trained = unet
        self.data, self.levels, self.embed, self.draw = data, levels, embed, draw
        self.batch, self.seed, self.objective = 16, 0, Objective()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = generator(self.seed, "batch", step)
        index = torch.randint(len(self.data.rows), (self.batch,), generator=rng)
        dropped = (torch.rand(self.batch, generator=rng) < self.objective.drop).tolist()
        captions = [
            "" if drop else pick(self.data.rows[i], rng) for i, drop in zip(index.tolist(), dropped, strict=True)
        ]
        x0 = self.data.scaled[index]
        # One timestep per stratum: the same distribution as independent draws, with less noise in the gradient.
        t = ((torch.arange(self.batch) + torch.rand(self.batch, generator=rng)) / self.batch * len(self.levels.sigmas))
        t = t.long()
        noise = torch.randn(x0.shape, generator=rng)
        error = self.error(x0, t, noise, self.embed(captions))
        low, high = error[: self.batch // 2].mean().item(), error[self.batch // 2 :].mean().item()
        return error.mean(), {"low": low, "high": high}

    def error(self, x0: Tensor, t: Tensor, noise: Tensor, tokens: Tensor) -> Tensor:
        """Weighted squared error of v per picture, (B,); `t`: integer timesteps."""
        sigma = self.levels.sigmas[t].reshape(-1, 1, 1, 1)
        alpha = 1 / (sigma.square() + 1).sqrt()
        noisy = alpha * (x0 + sigma * noise)
        v = alpha * (noise - sigma * x0)
        predicted: Tensor = self.trained(noisy.to(memory_format=torch.channels_last), t.float(), tokens)
        snr = sigma.flatten() ** -2
        weight = snr.clamp(max=self.objective.gamma) / (snr + 1)
        return weight * (predicted - v).square().mean(dim=(1, 2, 3))

    def after(self, step: int) -> None: ...

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        return {}

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None: ...

    def sample(self, averaged: nn.Module, path: Path) -> None:
        assert isinstance(averaged, UNet)
        self.draw(averaged, path)
