"""The denoising U-Net of latent diffusion (arXiv:2112.10752): SD 1.x, SD 2.x, SDXL (arXiv:2307.01952) and their kin.

Shape suffixes: B batch, C channels, H W latent pixels, S = H*W, T text tokens, D features.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attention


@dataclass(frozen=True, slots=True)
class UNetConfig:
    channels: tuple[int, ...]  # per level, high to low resolution
    depth: tuple[int, ...]  # transformer blocks per attention, per level; 0 = no attention there
    context: int  # width of the text tokens
    mid_depth: int = 1  # transformer blocks in the middle
    heads: int = 0  # attention heads at every level; 0 = as many as fit `head_width`
    head_width: int = 64
    blocks: int = 2  # residual blocks per level; the decoder has one more
    vector: int = 0  # width of the pooled text and size embedding (SDXL); 0 = none
    linear: bool = True  # attention's outer projections: linear (SD 2, SDXL) or 1x1 convolutions (SD 1)
    channels_in: int = 4  # latents, plus what is concatenated: mask and masked latents 9, picture to edit 8
    channels_out: int = 4
    groups: int = 32  # of every GroupNorm

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels after each stage of the encoder: what skips over to the decoder."""
        widths = [self.channels[0]]
        for level, channels in enumerate(self.channels):
            widths += [widths[-1]] * (level > 0) + [channels] * self.blocks
        return tuple(widths)


SD1 = UNetConfig((320, 640, 1280, 1280), (1, 1, 1, 0), 768, heads=8, linear=False)
SD1_INPAINT, SD1_EDIT = replace(SD1, channels_in=9), replace(SD1, channels_in=8)
SD2 = UNetConfig((320, 640, 1280, 1280), (1, 1, 1, 0), 1024)
SD2_INPAINT = replace(SD2, channels_in=9)
SDXL = UNetConfig((320, 640, 1280), (0, 2, 10), 2048, mid_depth=10, vector=2816)
SDXL_REFINER = UNetConfig((384, 768, 1536, 1536), (0, 4, 4, 0), 1280, mid_depth=4, vector=2560)


def sinusoid(t_B: Tensor, width: int) -> Tensor:
    """Fourier features of numbers (B,) -> (B, width), cosines first (arXiv:1706.03762, 3.5)."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=t_B.device) / half)
    angle = t_B.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class ResBlock(nn.Module):
    def __init__(self, cin: int, cout: int, embedding: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.time = nn.Linear(embedding, cout)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x_BCHW: Tensor, emb_BD: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x_BCHW)))
        h = h + self.time(F.silu(emb_BD))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h.add(self.skip(x_BCHW))


class GEGLU(nn.Module):
    """A gated MLP (arXiv:2002.05202)."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.up(x).chunk(2, dim=-1)
        y: Tensor = self.down(value * F.gelu(gate))
        return y


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.norm1, self.self_attn = nn.LayerNorm(width), Attention(width, heads, width)
        self.norm2, self.cross_attn = nn.LayerNorm(width), Attention(width, heads, context)
        self.norm3, self.mlp = nn.LayerNorm(width), GEGLU(width)

    def forward(self, x_BSD: Tensor, ctx_BTD: Tensor) -> Tensor:
        h = self.norm1(x_BSD)
        x_BSD = x_BSD + self.self_attn(h, h)
        x_BSD = x_BSD + self.cross_attn(self.norm2(x_BSD), ctx_BTD)
        return x_BSD.add(self.mlp(self.norm3(x_BSD)))


class SpatialTransformer(nn.Module):
    def __init__(self, width: int, depth: int, c: UNetConfig):
        super().__init__()
        heads = c.heads or width // c.head_width
        self.linear = c.linear
        self.norm = nn.GroupNorm(c.groups, width, eps=1e-6)
        self.proj_in, self.proj_out = (
            nn.Linear(width, width) if c.linear else nn.Conv2d(width, width, 1) for _ in range(2)
        )
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, c.context) for _ in range(depth))

    def forward(self, x_BCHW: Tensor, ctx_BTD: Tensor) -> Tensor:
        h = self.norm(x_BCHW)
        h = h if self.linear else self.proj_in(h)
        h_BSD = h.flatten(2).transpose(1, 2)
        h_BSD = self.proj_in(h_BSD) if self.linear else h_BSD
        for block in self.blocks:
            h_BSD = block(h_BSD, ctx_BTD)
        h_BSD = self.proj_out(h_BSD) if self.linear else h_BSD
        h = h_BSD.transpose(1, 2).reshape(x_BCHW.shape)
        return x_BCHW.add(h if self.linear else self.proj_out(h))


class Stage(nn.ModuleDict):
    """One entry of the encoder or decoder, by name: conv, res and attn, down, or up; they run in this order."""

    def forward(self, x: Tensor, emb: Tensor, ctx: Tensor, size: torch.Size | None = None) -> Tensor:
        steering = {"res": (emb,), "attn": (ctx,)}
        for name, layer in self.items():
            if name == "up":
                x = F.interpolate(x, size=size)  # doubles, or one less where the encoder rounded up
            x = layer(x, *steering.get(name, ()))
        return x


class Encoder(nn.Module):
    """The first half of the U-Net, from latents to its middle. A ControlNet is a second one."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config, c = config, config
        width, emb = c.channels[0], 4 * c.channels[0]
        self.time_mlp = _mlp(width, emb)
        self.vector_mlp = _mlp(c.vector, emb) if c.vector else None
        stages = [Stage({"conv": nn.Conv2d(c.channels_in, width, 3, padding=1)})]
        for level, channels in enumerate(c.channels):
            if level:
                stages.append(Stage({"down": nn.Conv2d(width, width, 3, stride=2, padding=1)}))
            for _ in range(c.blocks):
                stages.append(_stage(c, level, width))
                width = channels
        self.encoder = nn.ModuleList(stages)
        self.mid_in = ResBlock(width, width, emb, c.groups)
        self.mid_attn = SpatialTransformer(width, c.mid_depth, c) if c.mid_depth else None
        self.mid_out = ResBlock(width, width, emb, c.groups)

    def embed(self, x_BCHW: Tensor, t_B: Tensor, vec_BD: Tensor | None) -> Tensor:
        """What every residual block is told of time and vector, in the number format of x."""
        emb: Tensor = self.time_mlp(sinusoid(t_B, self.config.channels[0]).to(x_BCHW.dtype))
        return emb if self.vector_mlp is None else emb + self.vector_mlp(vec_BD)

    def encode(
        self, x_BCHW: Tensor, emb_BD: Tensor, ctx_BTD: Tensor, hint_BCHW: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """What skips over to the decoder, and what leaves the middle. `hint` is added to the first."""
        x, skips = x_BCHW, list[Tensor]()
        for stage in self.encoder:
            x = stage(x, emb_BD, ctx_BTD)
            if hint_BCHW is not None and not skips:
                x = x + hint_BCHW
            skips.append(x)
        x = self.mid_in(x, emb_BD)
        x = self.mid_attn(x, ctx_BTD) if self.mid_attn is not None else x
        return skips, self.mid_out(x, emb_BD)


class UNet(Encoder):
    """Noisy latents (B, C, H, W), timesteps (B,), text tokens (B, T, D), vector (B, V) -> prediction (B, C, H, W)."""

    def __init__(self, config: UNetConfig):
        super().__init__(config)
        c, width, widths = config, config.channels[-1], list(config.widths)
        self.decoder = nn.ModuleList()
        for level, channels in reversed(list(enumerate(c.channels))):
            stages = [_stage(c, level, cin + widths.pop()) for cin in (width, *[channels] * c.blocks)]
            if level:
                stages[-1]["up"] = nn.Conv2d(channels, channels, 3, padding=1)
            self.decoder.extend(stages)
            width = channels
        self.norm_out = nn.GroupNorm(c.groups, width)
        self.conv_out = nn.Conv2d(width, c.channels_out, 3, padding=1)

    def forward(self, x_BCHW: Tensor, t_B: Tensor, ctx_BTD: Tensor, vec_BD: Tensor | None = None) -> Tensor:
        emb = self.embed(x_BCHW, t_B, vec_BD)
        skips, x = self.encode(x_BCHW, emb, ctx_BTD)
        for stage in self.decoder:
            x = torch.cat([x, skips.pop()], dim=1)
            x = stage(x, emb, ctx_BTD, skips[-1].shape[-2:] if skips else None)
        y: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return y


def _mlp(cin: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(cin, width), nn.SiLU(), nn.Linear(width, width))


def _stage(c: UNetConfig, level: int, cin: int) -> Stage:
    """A residual block from `cin` channels to those of its level, and the level's attention."""
    width, depth = c.channels[level], c.depth[level]
    stage = Stage({"res": ResBlock(cin, width, 4 * c.channels[0], c.groups)})
    if depth:
        stage["attn"] = SpatialTransformer(width, depth, c)
    return stage
