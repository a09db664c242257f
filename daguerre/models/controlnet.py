"""ControlNet (arXiv:2302.05543): a second encoder, which sees a picture and adds to what the first one tells.

Shape suffixes: B batch, C channels, H W latent pixels, T text tokens, D features.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .unet import Encoder, UNetConfig

REDUCTION = 8  # of the picture's sides, to those of latents


@dataclass(frozen=True, slots=True)
class ControlNetConfig:
    unet: UNetConfig  # of the encoder, whose number of channels out means nothing here
    hint: tuple[int, int, int, int] = (16, 32, 96, 256)  # channels at each size of the picture, large to small
    colors: int = 3  # channels of the picture


class ControlNet(Encoder):
    """Latents, timesteps, text and vector as a U-Net takes them, and an embedded hint, to the decoder's additions."""

    def __init__(self, config: ControlNetConfig):
        super().__init__(config.unet)
        self.control = config
        pairs = [(config.colors, config.hint[0])]
        for wide, wider in zip(config.hint, config.hint[1:], strict=False):
            pairs += [(wide, wide), (wide, wider)]
        pairs.append((config.hint[-1], config.unet.channels[0]))
        strides = 1, 1, 2, 1, 2, 1, 2, 1
        self.hint = nn.ModuleList(
            nn.Conv2d(cin, cout, 3, stride, padding=1) for (cin, cout), stride in zip(pairs, strides, strict=True)
        )
        self.zero = nn.ModuleList(nn.Conv2d(width, width, 1) for width in config.unet.widths)
        self.zero_mid = nn.Conv2d(config.unet.channels[-1], config.unet.channels[-1], 1)

    def embed_hint(self, picture_BCHW: Tensor) -> Tensor:
        """A picture (B, colors, 8 H, 8 W) in [0, 1] as the first stage's addition (B, C, H, W)."""
        h = picture_BCHW
        for conv in self.hint[:-1]:
            h = F.silu(conv(h))
        y: Tensor = self.hint[-1](h)
        return y

    def forward(
        self, x_BCHW: Tensor, t_B: Tensor, ctx_BTD: Tensor, vec_BD: Tensor | None, hint_BCHW: Tensor
    ) -> list[Tensor]:
        """What is added to each skip of the encoder, in its order, and to what leaves the middle."""
        emb = self.embed(x_BCHW, t_B, vec_BD)
        skips, x = self.encode(x_BCHW, emb, ctx_BTD, hint_BCHW)
        return [*(zero(skip) for zero, skip in zip(self.zero, skips, strict=True)), self.zero_mid(x)]
