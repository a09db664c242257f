"""Small convolution networks that enlarge: the upscaler of pictures and the preview decoder of latents.

Residual blocks without normalization (arXiv:1707.02921) and one sub-pixel convolution (arXiv:1609.05158).
Shape suffixes: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class EnlargerConfig:
    channels: int = 3  # of the input: RGB, or latents
    width: int = 64
    blocks: int = 6
    scale: int = 4
    fold: int = 2  # side of the input's squares that are read as one pixel: a wider view for less work
    residual: bool = True  # adds to the bicubic enlargement of an RGB input

    @property
    def margin(self) -> int:
        """Pixels of the input, to each side, that decide an output pixel; a multiple of `fold`."""
        return self.fold * (2 * self.blocks + 3)


class ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.bend = nn.PReLU(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.add(self.conv2(self.bend(self.conv1(x_BCHW))))


class Enlarger(nn.Module):
    """(B, C, H, W) -> RGB (B, 3, scale * H, scale * W), about [-1, 1]; H and W are multiples of `fold`."""

    def __init__(self, config: EnlargerConfig):
        super().__init__()
        self.config, width, c = config, config.width, config
        self.conv_in = nn.Conv2d(c.channels * c.fold**2, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(c.blocks)))
        self.conv_out = nn.Conv2d(width, 3 * (c.scale * c.fold) ** 2, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        c, h = self.config, self.conv_in(F.pixel_unshuffle(x_BCHW, self.config.fold))
        y = F.pixel_shuffle(self.conv_out(h + self.blocks(h)), c.scale * c.fold)
        return y + F.interpolate(x_BCHW, scale_factor=c.scale, mode="bicubic") if c.residual else y
