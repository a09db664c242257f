"""What sees: CLIP's vision tower (arXiv:2103.00020, section 2.4), which puts pictures where the text tower puts their
words, a small one of convolutions, and the plain vision transformer, which captioners look at.

Shape suffixes: B batch, T patches and summary, D width, P width of the shared space, C H W picture.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .clip import Layer


@dataclass(frozen=True, slots=True)
class CLIPVisionConfig:
    size: int = 224  # pixels, square
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    activation: Literal["gelu", "quick_gelu"] = "quick_gelu"
    projection: int = 768
    inner: int = 0  # width inside the feed-forward layers; 0 = 4 x width


class CLIPVision(nn.Module):
    """Pictures (B, 3, size, size), normalized, to points (B, P) of the space that text and pictures share."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.config, width = config, config.width
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.summary = nn.Parameter(torch.zeros(width))
        self.position = nn.Embedding((config.size // config.patch) ** 2 + 1, width)
        self.norm_in, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            Layer(width, config.heads, config.activation, causal=False, inner=config.inner)
            for _ in range(config.layers)
        )
        self.projection = nn.Linear(width, config.projection, bias=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x_BTD = self.patches(image_BCHW).flatten(2).transpose(1, 2)
        x_BTD = torch.cat([self.summary.expand(len(x_BTD), 1, -1), x_BTD], dim=1) + self.position.weight
        x_BTD = self.norm_in(x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        y_BP: Tensor = self.projection(self.norm(x_BTD[:, 0]))
        return y_BP


@dataclass(frozen=True, slots=True)
class ViTConfig:
    size: int = 384  # pixels, square
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    epsilon: float = 1e-5  # of the norms


class ViT(nn.Module):
    """A vision transformer without a head (arXiv:2010.11929): pictures (B, 3, size, size), normalized, to (B, T, D)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config, c = config, config
        self.patches = nn.Conv2d(3, c.width, c.patch, c.patch)
        self.summary = nn.Parameter(torch.zeros(1, 1, c.width))
        self.places = nn.Parameter(torch.zeros(1, (c.size // c.patch) ** 2 + 1, c.width))
        self.layers = nn.ModuleList(
            Layer(c.width, c.heads, "gelu", causal=False, inner=c.inner, epsilon=c.epsilon) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width, c.epsilon)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = self.patches(image_BCHW).flatten(2).transpose(1, 2)
        x = torch.cat([self.summary.expand(len(x), -1, -1), x], dim=1) + self.places
        for layer in self.layers:
            x = layer(x)
        y_BTD: Tensor = self.norm(x)
        return y_BTD


@dataclass(frozen=True, slots=True)
class ConvVisionConfig:
    size: int = 64  # pixels, square
    widths: tuple[int, ...] = (48, 96, 128)  # of the stages, each of half the side of the one before
    blocks: tuple[int, ...] = (1, 2, 1)  # of each stage
    projection: int = 128


class ConvBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.conv1(F.gelu(self.norm1(x_BCHW)))
        return x_BCHW.add(self.conv2(F.gelu(self.norm2(h))))


class ConvVision(nn.Module):
    """A tower of convolutions (arXiv:1603.05027), which learns from few small pictures what patches cannot.

    Pictures (B, 3, size, size) in [-1, 1] to points (B, P) of the space that text and pictures share.
    """

    def __init__(self, config: ConvVisionConfig):
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Conv2d(3, widths[0], 4, 4)
        stages = list[nn.Module]()
        for i, (width, blocks) in enumerate(zip(widths, config.blocks, strict=True)):
            if i:
                stages.append(nn.Conv2d(widths[i - 1], width, 3, 2, padding=1))
            stages += [ConvBlock(width) for _ in range(blocks)]
        self.stages, self.norm = nn.Sequential(*stages), nn.LayerNorm(widths[-1])
        self.projection = nn.Linear(widths[-1], config.projection)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        h = self.stages(self.stem(image_BCHW)).mean(dim=(2, 3))
        y_BP: Tensor = self.projection(self.norm(h))
        return y_BP
