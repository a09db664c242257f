"""CLIP (arXiv:2103.00020): the text towers of Stable Diffusion.

Shape suffixes: B batch, T tokens, D width, P width of the pooled text.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attention


@dataclass(frozen=True, slots=True)
class CLIPTextConfig:
    width: int = 768
    layers: int = 12
    heads: int = 12
    activation: Literal["gelu", "quick_gelu"] = "quick_gelu"
    projection: int = 0  # width of the pooled output; 0 = no projection
    vocabulary: int = 49_408
    context: int = 77  # tokens, with start and end
    end_token: int = 49_407


VIT_L = CLIPTextConfig()
VIT_H = CLIPTextConfig(1024, 24, 16, "gelu", projection=1024)
VIT_BIG_G = CLIPTextConfig(1280, 32, 20, "gelu", projection=1280)


class TextStates(NamedTuple):
    hidden: list[Tensor]  # (B, T, D) after each layer, before the final norm; hidden[-2] is "penultimate"
    last: Tensor  # (B, T, D) after the final norm
    pooled: Tensor  # (B, P) at the first end token, projected where the model has a projection


class Layer(nn.Module):
    def __init__(
        self, width: int, heads: int, activation: str, *, causal: bool = True, inner: int = 0, epsilon: float = 1e-5
    ):
        super().__init__()
        self.heads, self.quick, self.causal = heads, activation == "quick_gelu", causal
        self.norm1, self.norm2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner or 4 * width), nn.Linear(inner or 4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        h = self.norm1(x_BTD)
        x_BTD = x_BTD + self.out(attention(self.q(h), self.k(h), self.v(h), self.heads, causal=self.causal))
        h = self.up(self.norm2(x_BTD))
        h = h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h)
        return x_BTD.add(self.down(h))


class CLIPText(nn.Module):
    """Token ids (B, T <= context) to `TextStates`."""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.layers = nn.ModuleList(Layer(config.width, config.heads, config.activation) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Linear(config.width, config.projection, bias=False) if config.projection else None

    def forward(self, ids_BT: Tensor) -> TextStates:
        return self.encode(self.token(ids_BT), ids_BT)

    def encode(self, embedded_BTD: Tensor, ids_BT: Tensor) -> TextStates:
        """From token vectors, some of which may not be the vocabulary's own; `ids` tell where the text ends."""
        x = embedded_BTD + self.position.weight[: ids_BT.shape[1]]
        hidden: list[Tensor] = []
        for layer in self.layers:
            hidden.append(x := layer(x))
        last = self.norm(x)
        end = (ids_BT == self.config.end_token).int().argmax(dim=-1)
        pooled = last[torch.arange(len(last), device=last.device), end]
        return TextStates(hidden, last, pooled if self.projection is None else self.projection(pooled))
