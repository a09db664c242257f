"""The KL autoencoder of latent diffusion (arXiv:2112.10752, section 3.1): pixels <-> latents.

Shape suffixes: B batch, C channels, H W height and width, S = H*W, D features.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class VAEConfig:
    channels: tuple[int, ...] = (128, 256, 512, 512)  # per level, high to low resolution
    blocks: int = 2  # residual blocks per level; the decoder has one more
    latent_channels: int = 4
    scale: float = 0.18215  # latents are multiplied by this for the denoiser
    groups: int = 32  # of every GroupNorm

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        return int(2 ** (len(self.channels) - 1))


SD, SDXL = VAEConfig(), VAEConfig(scale=0.13025)


class ResBlock(nn.Module):
    def __init__(self, cin: int, cout: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, cin, eps=1e-6)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, cout, eps=1e-6)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x_BCHW)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h.add(self.skip(x_BCHW))


class SpatialAttention(nn.Module):
    """One attention head over all pixels."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BSC = self.norm(x_BCHW).flatten(2).transpose(1, 2)
        q, k, v = (layer(h_BSC)[:, None] for layer in (self.q, self.k, self.v))  # fast kernels want heads
        h_BSC = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x_BCHW.add(self.out(h_BSC).transpose(1, 2).reshape(x_BCHW.shape))


def _downsample(width: int) -> nn.Sequential:
    pad = nn.ZeroPad2d((0, 1, 0, 1))  # asymmetric, as trained
    return nn.Sequential(OrderedDict(pad=pad, conv=nn.Conv2d(width, width, 3, stride=2)))


def _upsample(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(enlarge=nn.Upsample(scale_factor=2.0), conv=nn.Conv2d(width, width, 3, padding=1)))


def _levels(widths: tuple[int, ...], blocks: int, groups: int, resize: Callable[[int], nn.Module]) -> nn.Sequential:
    """Residual blocks at each level's width, with a change of resolution between levels."""
    layers: list[nn.Module] = []
    for level, (cin, cout) in enumerate(pairwise([widths[0], *widths])):
        if level:
            layers.append(resize(cin))
        layers += [ResBlock(cout if i else cin, cout, groups) for i in range(blocks)]
    return nn.Sequential(*layers)


def _middle(width: int, groups: int) -> nn.Sequential:
    block = ResBlock(width, width, groups), SpatialAttention(width, groups), ResBlock(width, width, groups)
    return nn.Sequential(*block)


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = config.channels, config.groups
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = _levels(widths, config.blocks, groups, _downsample)
        self.mid = _middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.mid(self.blocks(self.conv_in(x_BCHW)))
        y: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return y


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig):
        super().__init__()
        widths, groups = config.channels[::-1], config.groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid = _middle(widths[0], groups)
        self.blocks = _levels(widths, config.blocks + 1, groups, _upsample)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        h = self.blocks(self.mid(self.conv_in(z_BCHW)))
        y: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return y


class VAE(nn.Module):
    """`encode`: pixels (B, 3, H, W) in [-1, 1] -> latents (B, C, H/f, W/f), about unit variance; `decode`: back."""

    rows_meet = False  # in pictures that repeat, which tell `decode_in_bands` so

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config, z = config, config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant, self.post_quant = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)

    def posterior(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the unscaled latents."""
        mean, logvar = self.quant(self.encoder(image_BCHW)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, image_BCHW: Tensor, noise_BCHW: Tensor | None = None) -> Tensor:
        """The posterior's mean, or a sample of it made with the given standard normal `noise`; scaled."""
        mean, logvar = self.posterior(image_BCHW)
        z = mean if noise_BCHW is None else mean + torch.exp(0.5 * logvar) * noise_BCHW
        return z * self.config.scale

    def decode(self, z_BCHW: Tensor) -> Tensor:
        """Scaled latents to pixels, about [-1, 1]."""
        y: Tensor = self.decoder(self.post_quant(z_BCHW / self.config.scale))
        return y
