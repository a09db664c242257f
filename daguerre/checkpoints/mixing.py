"""How tensors of several models become one: weighted sums, differences, SLERP, TIES and DARE, tensor by tensor.

All take and give float32 tensors of one shape.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def weighted_sum(a: Tensor, others: Sequence[Tensor], ratio: float) -> Tensor:
    """(1 - ratio) a + ratio b, A1111's "Weighted sum"."""
    (b,) = others
    return (1 - ratio) * a + ratio * b


def add_difference(a: Tensor, others: Sequence[Tensor], ratio: float) -> Tensor:
    """a + ratio (b - c), A1111's "Add difference": what b has learned since c."""
    b, c = others
    return a + ratio * (b - c)


def slerp(a: Tensor, others: Sequence[Tensor], ratio: float) -> Tensor:
    """Along the arc from a to b, of which `ratio` is the share: lengths are kept where a weighted sum shrinks them.

    Directions that hardly differ, or that are opposite, have no arc; there it is a weighted sum.
    """
    (b,) = others
    cosine = torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0, eps=1e-30)
    if cosine.abs() > 0.9995 or not torch.isfinite(cosine):
        return weighted_sum(a, others, ratio)
    angle = cosine.acos()
    shares = torch.sin((1 - ratio) * angle) / angle.sin(), torch.sin(ratio * angle) / angle.sin()
    return shares[0].float() * a + shares[1].float() * b


def ties(base: Tensor, tuned: Sequence[Tensor], ratio: float, density: float) -> Tensor:
    """TIES (arXiv:2306.01708): of each model's change the largest numbers, where most of the mass agrees on a sign.

    `density` is the share of numbers that each keeps, in this tensor. The mean of those that agree counts `ratio`
    times.
    """
    changes = torch.stack([_largest(one - base, density) for one in tuned])
    elected = changes.sum(dim=0).sign()
    agreeing = changes * (changes.sign() == elected)
    count = (agreeing != 0).sum(dim=0).clamp(min=1)
    return base + ratio * agreeing.sum(dim=0) / count


def dare(base: Tensor, tuned: Sequence[Tensor], ratio: float, density: float, name: str, seed: int) -> Tensor:
    """DARE (arXiv:2311.03099): of each model's change a random share, enlarged by as much as is missing, summed.

    The share depends on seed, the tensor's name and the model's place alone.
    """
    whole = torch.zeros_like(base)
    for place, one in enumerate(tuned):
        digest = hashlib.blake2b(repr((seed, name, place)).encode(), digest_size=8).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest, "little") >> 1)
        kept = torch.rand(base.shape, generator=generator) < density
        whole += (one - base) * kept / density
    return base + ratio * whole


def _largest(change: Tensor, density: float) -> Tensor:
    flat = change.flatten().abs()
    kept = max(1, round(density * flat.numel()))
    least = flat.kthvalue(flat.numel() - kept + 1).values
    return change * (change.abs() >= least)


Mix = Callable[[Tensor, Sequence[Tensor], float], Tensor]
