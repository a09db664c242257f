"""Multi-head attention (arXiv:1706.03762), and how it is changed from outside.

Heat maps, shared attention, regions and pictures as prompts all swap the function in its middle. Shape suffixes:
B batch, S places, T text tokens, D features.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

# Queries (B, heads, S, D), keys and values (B, heads, T, D) -> (B, heads, S, D)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attention(q_BSD: Tensor, k_BTD: Tensor, v_BTD: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """Projected values (B, S, D), weighed in heads. Keys and values of one row serve every row of queries."""
    k_BTD, v_BTD = (y.expand(len(q_BSD), -1, -1) for y in (k_BTD, v_BTD))
    q, k, v = (y.reshape(*y.shape[:2], heads, -1).transpose(1, 2) for y in (q_BSD, k_BTD, v_BTD))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    attend: Attend = staticmethod(F.scaled_dot_product_attention)  # which `attending` changes

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(context, width, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(self, x_BSD: Tensor, ctx_BTD: Tensor) -> Tensor:
        projected = self.q(x_BSD), self.k(ctx_BTD), self.v(ctx_BTD)
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in projected)
        y = self.attend(q, k, v)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


# (native path of an attention module, how it attends) -> how it shall attend, or None to leave it
Change = Callable[[str, Attend], Attend | None]


@contextmanager
def attending(network: nn.Module, change: Change) -> Iterator[None]:
    """Has the attention modules of a network attend as `change` says, for so long; changes nest.

    Paths are like "mid_attn.blocks.0.cross_attn"; self-attention is called `self_attn`.
    """
    changed: list[tuple[Attention, Attend | None]] = []
    try:
        for path, module in network.named_modules():
            if isinstance(module, Attention) and (new := change(path, module.attend)) is not None:
                changed.append((module, vars(module).get("attend")))
                module.attend = new
        yield
    finally:
        for module, before in reversed(changed):
            if before is None:
                del module.attend
            else:
                module.attend = before
