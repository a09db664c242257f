"""A vision transformer and a GPT-2 that looks at what it saw as it writes: a captioner (arXiv:1907.12461, section 2).

GPT-2 itself: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3. Shape suffixes:
B batch, T tokens, D width, S patches and summary, V vocabulary, C H W picture.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attention
from .vision import ViT, ViTConfig


@dataclass(frozen=True, slots=True)
class ViTGPT2Config:
    vision: ViTConfig
    width: int = 768  # of the text decoder
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 50_257
    context: int = 1024  # tokens
    start_token: int = 50_256
    end_token: int = 50_256
    tied: bool = True  # words are told by the vectors that they are read by


class DecoderLayer(nn.Module):
    """Attention to the text so far, attention to the picture, feed-forward; each normalized before."""

    def __init__(self, c: ViTGPT2Config):
        super().__init__()
        self.heads, width = c.heads, c.width
        self.norm1, self.norm_cross, self.norm2 = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q, self.kv, self.out_cross = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.up, self.down = nn.Linear(width, c.inner), nn.Linear(c.inner, width)

    def forward(self, x_BTD: Tensor, seen_BSD: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x_BTD)).chunk(3, dim=-1)
        x_BTD = x_BTD + self.out(attention(q, k, v, self.heads, causal=True))
        k, v = self.kv(seen_BSD).chunk(2, dim=-1)
        x_BTD = x_BTD + self.out_cross(attention(self.q(self.norm_cross(x_BTD)), k, v, self.heads))
        return x_BTD.add(self.down(F.gelu(self.up(self.norm2(x_BTD)), approximate="tanh")))


class ViTGPT2(nn.Module):
    """Looks at pictures once, then tells what token comes next in their captions."""

    def __init__(self, config: ViTGPT2Config):
        super().__init__()
        self.config, c = config, config
        self.vision = ViT(c.vision)
        self.project = nn.Linear(c.vision.width, c.width) if c.vision.width != c.width else None
        self.token, self.position = nn.Embedding(c.vocabulary, c.width), nn.Embedding(c.context, c.width)
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.head = None if c.tied else nn.Linear(c.width, c.vocabulary, bias=False)

    def look(self, image_BCHW: Tensor) -> Tensor:
        """What is seen (B, S, D) in pictures, normalized, in the decoder's width."""
        seen: Tensor = self.vision(image_BCHW)
        return seen if self.project is None else self.project(seen)

    def forward(self, ids_BT: Tensor, seen_BSD: Tensor) -> Tensor:
        """Logits (B, V) of the token after these; what is seen in one picture serves all texts."""
        x = self.token(ids_BT) + self.position.weight[: ids_BT.shape[1]]
        for layer in self.layers:
            x = layer(x, seen_BSD)
        return F.linear(self.norm(x[:, -1]), (self.token if self.head is None else self.head).weight)
