"""IP-Adapter (arXiv:2308.06721): pictures as prompts, which cross-attention attends to beside the text.

Shape suffixes: B batch, F features of a picture, N its tokens, T tokens of the vision tower, D width, S places.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attend, Attention, Change
from .unet import UNet


@dataclass(frozen=True, slots=True)
class IPAdapterConfig:
    widths: tuple[int, ...]  # of the U-Net's cross-attention, in the order of encoder, decoder, middle
    context: int = 768  # width of the text tokens
    features: int = 1024  # of a picture, by CLIP
    tokens: int = 4  # that stand for a picture
    depth: int = 0  # layers of the resampler; 0 = one projection ("plus" models have 4 layers)
    width: int = 0  # of the resampler
    inner: int = 0  # width of the resampler's attention, in heads of 64


class Projection(nn.Module):
    """A picture's CLIP vector (B, F) to tokens (B, N, D)."""

    def __init__(self, c: IPAdapterConfig):
        super().__init__()
        self.proj, self.norm = nn.Linear(c.features, c.tokens * c.context), nn.LayerNorm(c.context)
        self.tokens = c.tokens

    def forward(self, picture_BF: Tensor) -> Tensor:
        y: Tensor = self.norm(self.proj(picture_BF).unflatten(-1, (self.tokens, -1)))
        return y


class ResamplerLayer(nn.Module):
    """Tokens that attend to a picture's, and to themselves (arXiv:2204.14198, section 2.2)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm_picture, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, inner, bias=False), nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.norm_mlp = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BND: Tensor, picture_BTD: Tensor) -> Tensor:
        h = self.norm_tokens(x_BND)
        k, v = self.kv(torch.cat([self.norm_picture(picture_BTD), h], dim=1)).chunk(2, dim=-1)
        q, k, v = (p.unflatten(-1, (-1, 64)).transpose(1, 2) for p in (self.q(h), k, v))
        x_BND = x_BND + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x_BND.add(self.down(F.gelu(self.up(self.norm_mlp(x_BND)))))


class Resampler(nn.Module):
    """The vision tower's states (B, T, F) to tokens (B, N, D)."""

    def __init__(self, c: IPAdapterConfig):
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, c.tokens, c.width))
        self.proj_in, self.proj_out = nn.Linear(c.features, c.width), nn.Linear(c.width, c.context)
        self.norm_out = nn.LayerNorm(c.context)
        self.layers = nn.ModuleList(ResamplerLayer(c.width, c.inner) for _ in range(c.depth))

    def forward(self, picture_BTF: Tensor) -> Tensor:
        picture, x = self.proj_in(picture_BTF), self.latents.expand(len(picture_BTF), -1, -1)
        for layer in self.layers:
            x = layer(x, picture)
        y: Tensor = self.norm_out(self.proj_out(x))
        return y


class KeyValue(nn.Module):
    def __init__(self, context: int, width: int):
        super().__init__()
        self.k, self.v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)


class IPAdapter(nn.Module):
    """`project` makes tokens of a picture; `change` has a U-Net attend to them."""

    def __init__(self, config: IPAdapterConfig):
        super().__init__()
        self.config = config
        self.project = Resampler(config) if config.depth else Projection(config)
        self.attention = nn.ModuleList(KeyValue(config.context, width) for width in config.widths)

    def change(self, unet: UNet, tokens_BND: Tensor, weight: Tensor | float) -> Change:
        """Equation 5: cross-attention with that to a picture's tokens beside it, for `attending`.

        The weight is a number, or one for each of the batch (B, 1, 1, 1).
        """
        modules: dict[str, nn.Module] = dict(zip(cross_attentions(unet), self.attention, strict=True))

        def change(path: str, attend: Attend) -> Attend | None:
            own = modules.get(path)
            if own is None:
                return None
            assert isinstance(own, KeyValue)

            def decoupled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                ip_k, ip_v = (p(tokens_BND).unflatten(-1, (q.shape[1], -1)).transpose(1, 2) for p in (own.k, own.v))
                return attend(q, k, v) + weight * F.scaled_dot_product_attention(q, ip_k, ip_v)

            return decoupled

        return change


def cross_attentions(unet: UNet) -> list[str]:
    """The paths of a U-Net's cross-attention, the middle's last, as IP-Adapters count them."""
    paths = [path for path, module in unet.named_modules() if isinstance(module, Attention)]
    return sorted((path for path in paths if path.endswith("cross_attn")), key=lambda path: path.startswith("mid"))
