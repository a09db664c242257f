"""CLIP's vision tower (arXiv:2103.00020, section 2.4), which puts pictures where the text tower puts their words.

Shape suffixes: B batch, T patches and summary, D width, P width of the shared space, C H W picture.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

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
