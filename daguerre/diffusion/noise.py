"""Noise from CPU generators, one per picture, so that neither batch nor device can change a picture."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

from .denoiser import NoiseSource

DEPTH = 16  # halvings of a Brownian path before the point asked for is drawn itself


def initial(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise (len(seeds), *shape) to start from: the first draw of each seed's generator."""
    return torch.stack([torch.randn(*shape, generator=Generator().manual_seed(seed)) for seed in seeds])


def spherical(share: float, low: Tensor, high: Tensor) -> Tensor:
    """Noise (B, C, H, W) a share of the way from `low` to `high`: along an arc, for each column, as A1111 goes."""
    a, b = (noise / noise.norm(dim=-2, keepdim=True) for noise in (low, high))
    cosine = (a * b).sum(-2, keepdim=True)
    if cosine.mean() > 0.9995:
        return low
    angle = cosine.acos()
    return ((1 - share) * angle).sin() / angle.sin() * low + (share * angle).sin() / angle.sin() * high


def centered(noise: Tensor, ground: Tensor) -> Tensor:
    """`ground` (B, C, H, W) with noise of another size in its middle; what is larger than it is cut off evenly."""
    result = ground.clone()
    (y, top), (x, left) = (
        (max(0, mine - theirs) // 2, max(0, theirs - mine) // 2)
        for mine, theirs in zip(ground.shape[-2:], noise.shape[-2:], strict=True)
    )
    part = noise[..., top : top + ground.shape[-2], left : left + ground.shape[-1]]
    result[..., y : y + part.shape[-2], x : x + part.shape[-1]] = part
    return result


def fresh(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> NoiseSource:
    """New noise for every call: the draws that follow `initial` from the same generators."""
    generators = [Generator().manual_seed(seed) for seed in seeds]

    def draw(*levels: Tensor) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=generator) for generator in generators]).to(device)

    draw()
    return draw


def brownian(
    seeds: Sequence[int], shape: Sequence[int], low: float, high: float, device: torch.device | str = "cpu"
) -> NoiseSource:
    """Increments of a Brownian path over sigma, at unit variance: overlapping intervals share noise.

    The path depends on the seed, low and high, not on the levels visited: more steps refine the same picture.
    Every midpoint is drawn given its two neighbors, from a generator of its own.
    """

    def normal(node: int) -> Tensor:
        digests = [hashlib.sha256(f"{seed} {node}".encode()).digest() for seed in seeds]
        return initial([int.from_bytes(digest[:4]) for digest in digests], shape)

    @lru_cache(4)
    def path(t: float) -> Tensor:
        a, b, node = low, high, 1
        w_a, w_b = torch.zeros(len(seeds), *shape), math.sqrt(high - low) * normal(0)
        while True:
            m = (a + b) / 2 if node < 2**DEPTH else t
            share = (m - a) / (b - a)
            deviation = math.sqrt(max(0.0, share * (1 - share) * (b - a)))
            w = w_a + share * (w_b - w_a) + deviation * normal(node)
            if m == t:
                return w
            a, w_a, b, w_b, node = (m, w, b, w_b, 2 * node + 1) if t > m else (a, w_a, m, w, 2 * node)

    def increment(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        a, b = float(sigma), float(sigma_next)
        return ((path(b) - path(a)) / math.sqrt(abs(b - a))).to(device)

    return increment
