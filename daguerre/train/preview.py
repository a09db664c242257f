"""Training the preview decoder: latents to a small picture, hundreds of times cheaper than the VAE's decoder."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.enlarger import Enlarger
from .autoencoder import gradient_difference
from .contact_sheet import contact_sheet
from .randomness import generator, normal, uniform
from .upscaler import psnr

NOISE = 0.3  # largest strength of what is added to the latents, since estimates in mid-drawing are not clean


class PreviewRecipe:
    """The loop's recipe. Pairs of scaled latents (N, C, h, w) and pictures, uint8 (N, 3, H, W) of any larger size."""

    def __init__(
        self, network: Enlarger, pairs: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], batch: int, seed: int
    ):
        self.trained, self.batch, self.seed = network, batch, seed
        self.latents, self.pictures = pairs
        self.held = held[0], self._target(held[1])

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        device = self.trained.conv_in.weight.device
        index = torch.randint(len(self.latents), (self.batch,), generator=generator(self.seed, "pictures", step))
        index = index[part.start : part.stop]
        z, target = self.latents[index], self._target(self.pictures[index]).to(device)
        strength = NOISE * uniform(self.seed, "strength", step, part)[:, None, None, None]
        z = z + strength * normal(self.seed, "noise", step, part, tuple(z.shape[1:]))
        made = self.trained(z.to(device, memory_format=torch.channels_last)).float()
        pixel, edges = F.l1_loss(made, target), gradient_difference(made, target)
        return pixel + 0.5 * edges, {"pixel": pixel.item(), "edges": edges.item()}

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """PSNR in dB on held-out pictures."""
        return {"preview": psnr(self._decoded(), self.held[1])}

    def sample(self, path: Path) -> None:
        """Held-out pictures below what their latents give."""
        contact_sheet(torch.cat([self._decoded()[:12], self.held[1][:12]]), path, columns=12)

    def _decoded(self) -> Tensor:
        made: Tensor = self.trained(self.held[0].to(self.trained.conv_in.weight.device))
        return made.cpu()

    def _target(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] as large as the network's output."""
        size = self.latents.shape[-1] * self.trained.config.scale
        return F.adaptive_avg_pool2d(pictures.float().div(127.5).sub(1), size)
