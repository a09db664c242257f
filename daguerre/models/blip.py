"""BLIP (arXiv:2201.12086), its captioner: a vision transformer, and a BERT that looks at what it saw as it writes.

Shape suffixes: B batch, T tokens, D width, S patches and summary, V vocabulary, C H W picture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attention
from .vision import ViT, ViTConfig


@dataclass(frozen=True, slots=True)
class BLIPConfig:
    vision: ViTConfig
    width: int = 768  # of the text decoder
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30_524
    context: int = 512  # tokens
    start_token: int = 30_522
    end_token: int = 102


class CrossAttention(nn.Module):
    """Attention of a text to itself, causal, or to a picture; normalized after it is added, as in BERT."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(context, width), nn.Linear(context, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x_BTD: Tensor, seen_BSD: Tensor | None = None) -> Tensor:
        context = x_BTD if seen_BSD is None else seen_BSD
        h = attention(self.q(x_BTD), self.k(context), self.v(context), self.heads, causal=seen_BSD is None)
        y_BTD: Tensor = self.norm(x_BTD + self.out(h))
        return y_BTD


class DecoderLayer(nn.Module):
    def __init__(self, c: BLIPConfig):
        super().__init__()
        self.own, self.cross = (CrossAttention(c.width, n, c.heads) for n in (c.width, c.vision.width))
        self.up, self.down = nn.Linear(c.width, c.inner), nn.Linear(c.inner, c.width)
        self.norm = nn.LayerNorm(c.width, eps=1e-12)

    def forward(self, x_BTD: Tensor, seen_BSD: Tensor) -> Tensor:
        x_BTD = self.cross(self.own(x_BTD), seen_BSD)
        y_BTD: Tensor = self.norm(x_BTD + self.down(F.gelu(self.up(x_BTD))))
        return y_BTD


class BLIP(nn.Module):
    """Looks at pictures once, then tells what word comes next in their captions."""

    def __init__(self, config: BLIPConfig):
        super().__init__()
        self.config, c = config, config
        self.vision = ViT(c.vision)
        self.token, self.position = nn.Embedding(c.vocabulary, c.width), nn.Embedding(c.context, c.width)
        self.text_norm = nn.LayerNorm(c.width, eps=1e-12)
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.layers))
        self.last, self.last_norm = nn.Linear(c.width, c.width), nn.LayerNorm(c.width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(c.vocabulary))

    def look(self, image_BCHW: Tensor) -> Tensor:
        """What is seen (B, S, D) in pictures, normalized as CLIP's are."""
        seen: Tensor = self.vision(image_BCHW)
        return seen

    def forward(self, ids_BT: Tensor, seen_BSD: Tensor) -> Tensor:
        """Logits (B, V) of the token after these; what is seen in one picture serves all texts."""
        x = self.text_norm(self.token(ids_BT) + self.position.weight[: ids_BT.shape[1]])
        for layer in self.layers:
            x = layer(x, seen_BSD)
        return F.linear(self.last_norm(F.gelu(self.last(x[:, -1]))), self.token.weight, self.bias)
