"""T2I-Adapter (arXiv:2302.08453): a picture's features at each size, to be added within a U-Net's encoder.

Shape suffixes: B batch, C channels, H W pixels at each size.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class T2IAdapterConfig:
    channels: tuple[int, ...] = (320, 640, 1280, 1280)  # per level
    blocks: int = 2  # residual blocks per level
    colors: int = 3  # channels of the picture
    kind: Literal["full", "xl", "light"] = "full"

    @property
    def reduction(self) -> int:
        """Of the picture's sides, to those of the first features."""
        return 16 if self.kind == "xl" else 8

    def halves(self, level: int) -> bool:
        """Whether a level's features are half as large as those before."""
        return level == 2 if self.kind == "xl" else level > 0


class T2IBlock(nn.Module):
    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(width, width, 3, padding=1),
            nn.Conv2d(width, width, kernel, padding=kernel // 2),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.add(self.conv2(F.relu(self.conv1(x_BCHW))))


class T2ILevel(nn.Module):
    def __init__(self, cin: int, cout: int, c: T2IAdapterConfig, *, halves: bool):
        super().__init__()
        light, self.halves = c.kind == "light", halves
        width = cout // 4 if light else cout
        self.conv_in = nn.Conv2d(cin, width, 1) if light or cin != cout else None
        self.blocks = nn.ModuleList(T2IBlock(width, 3 if light else 1) for _ in range(c.blocks))
        self.conv_out = nn.Conv2d(width, cout, 1) if light else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = F.avg_pool2d(x_BCHW, 2, ceil_mode=True) if self.halves else x_BCHW
        x = x if self.conv_in is None else self.conv_in(x)
        for block in self.blocks:
            x = block(x)
        return x if self.conv_out is None else self.conv_out(x)


class T2IAdapter(nn.Module):
    """A picture (B, colors, H, W) in [0, 1] to features at each level, the first `reduction` times smaller."""

    def __init__(self, config: T2IAdapterConfig):
        super().__init__()
        self.config, c = config, config
        cin = c.colors * c.reduction**2
        self.conv_in = nn.Conv2d(cin, c.channels[0], 3, padding=1) if c.kind != "light" else None
        inputs = (cin if c.kind == "light" else c.channels[0], *c.channels)
        self.levels = nn.ModuleList(
            T2ILevel(inputs[level], width, c, halves=c.halves(level)) for level, width in enumerate(c.channels)
        )

    def forward(self, picture_BCHW: Tensor) -> list[Tensor]:
        x = F.pixel_unshuffle(picture_BCHW, self.config.reduction)
        x = x if self.conv_in is None else self.conv_in(x)
        features = []
        for level in self.levels:
            features.append(x := level(x))
        return features
