"""Networks of ESRGAN's family, which enlarge pictures of any kind: RRDBNet and the compact ones of Real-ESRGAN.

RRDBNet is of residual in residual dense blocks (arXiv:1809.00219, section 3.1; arXiv:2107.10833, section 3.3, for
fold and scale 1 and 2). Shape suffixes: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARE = 0.2  # of a residual that is added: section 3.1, beta


@dataclass(frozen=True, slots=True)
class RRDBConfig:
    width: int = 64
    blocks: int = 23
    growth: int = 32  # channels that each convolution of a dense block adds
    doublings: int = 2  # of the size, at the end
    fold: int = 1  # side of the input's squares that are read as one pixel

    @property
    def scale(self) -> int:
        """Pixels of the output for one of the input, along each side."""
        return (1 << self.doublings) // self.fold

    @property
    def margin(self) -> int:
        """Pixels of the input, to each side, that decide an output pixel; a multiple of `fold`."""
        return self.fold * (15 * self.blocks + 4)


@dataclass(frozen=True, slots=True)
class CompactConfig:
    width: int = 64
    convs: int = 16  # between the first and the last convolution
    scale: int = 4

    @property
    def fold(self) -> int:
        """It reads each pixel."""
        return 1

    @property
    def margin(self) -> int:
        """Pixels of the input, to each side, that decide an output pixel."""
        return self.convs + 2


def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def bend(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class DenseBlock(nn.ModuleList):
    """Five convolutions, each of which sees the input and what all before it made."""

    def __init__(self, width: int, growth: int):
        outs = [growth] * 4 + [width]
        super().__init__(convolution(width + i * growth, out) for i, out in enumerate(outs))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        *convs, last = self
        seen = x_BCHW
        for conv in convs:
            seen = torch.cat([seen, bend(conv(seen))], dim=1)
        y: Tensor = x_BCHW + SHARE * last(seen)
        return y


class RRDB(nn.ModuleList):
    """Three dense blocks, one after the other."""

    def __init__(self, width: int, growth: int):
        super().__init__(DenseBlock(width, growth) for _ in range(3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = x_BCHW
        for dense in self:
            h = dense(h)
        return x_BCHW + SHARE * h


class RRDBNet(nn.Module):
    """RGB (B, 3, H, W) -> RGB (B, 3, scale * H, scale * W), both about [0, 1]; H and W are multiples of `fold`."""

    def __init__(self, config: RRDBConfig):
        super().__init__()
        self.config, c, width = config, config, config.width
        self.conv_in = convolution(3 * c.fold**2, width)
        self.blocks = nn.Sequential(*(RRDB(width, c.growth) for _ in range(c.blocks)))
        self.conv_body = convolution(width, width)
        self.up = nn.ModuleList(convolution(width, width) for _ in range(c.doublings))
        self.conv_hr = convolution(width, width)
        self.conv_out = convolution(width, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.conv_in(F.pixel_unshuffle(x_BCHW, self.config.fold))
        h = h + self.conv_body(self.blocks(h))
        for up in self.up:
            h = bend(up(F.interpolate(h, scale_factor=2, mode="nearest")))
        y: Tensor = self.conv_out(bend(self.conv_hr(h)))
        return y


class Compact(nn.Module):
    """RGB (B, 3, H, W) -> RGB (B, 3, scale * H, scale * W), both about [0, 1]: SRVGGNetCompact of Real-ESRGAN."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        self.config, width = config, config.width
        widths = [3, *[width] * (config.convs + 1)]
        layers = (layer for a, b in pairwise(widths) for layer in (convolution(a, b), nn.PReLU(b)))
        self.body = nn.Sequential(*layers, convolution(width, 3 * config.scale**2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale = self.config.scale
        return F.pixel_shuffle(self.body(x_BCHW), scale) + F.interpolate(x_BCHW, scale_factor=scale, mode="nearest")
