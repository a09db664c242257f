"""Noise from CPU generators, one per picture, so that neither batch nor device can change a picture."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from .denoiser import NoiseSource

Source = Literal["cpu", "nv"]  # A1111's "CPU" and "NV": PyTorch's generator, or the numbers that CUDA's would draw
MULTIPLIERS, HALF, WORD = np.array([0xD2511F53, 0xCD9E8D57], np.uint64), np.uint64(32), np.uint64(2**32 - 1)
DEPTH = 16  # halvings of a Brownian path before the point asked for is drawn itself


def stream(seed: int, source: Source = "cpu") -> Callable[[Sequence[int]], Tensor]:
    """Draws standard normal numbers of a shape, on from where the last draw ended."""
    return Philox(seed) if source == "nv" else partial(torch.randn, generator=Generator().manual_seed(seed))


class Philox:
    """What torch.randn draws on a CUDA device: Philox 4x32-10 (Random123, SC 2011), then Box and Muller.

    Number n of draw d is made of the counter (d, 0, n, 0); true for as many numbers as the device has threads, as
    in all but the largest latents, and to the last bit or two of a float32.
    """

    def __init__(self, seed: int):
        self.key, self.draws = (seed % 2**32, seed // 2**32), 0

    def __call__(self, shape: Sequence[int]) -> Tensor:
        n = np.arange(math.prod(shape), dtype=np.uint64)
        a, b, c, d = np.full_like(n, self.draws), 0 * n, n, 0 * n
        self.draws += 1
        low, high = self.key
        for _ in range(10):
            x, y = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
            a, b, c, d = (y >> HALF) ^ b ^ np.uint64(low), y & WORD, (x >> HALF) ^ d ^ np.uint64(high), x & WORD
            low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
        u, v = ((bits.astype(np.float32) + np.float32(0.5)) * np.float32(2**-32) for bits in (a, b))
        normal: Tensor = torch.from_numpy(np.sqrt(-2 * np.log(u)) * np.sin(np.float32(2 * math.pi) * v))
        return normal.reshape(*shape)


def initial(seeds: Sequence[int], shape: Sequence[int], source: Source = "cpu") -> Tensor:
    """Standard normal noise (len(seeds), *shape) to start from: the first draw of each seed's generator."""
    return torch.stack([stream(seed, source)(shape) for seed in seeds])


def spherical(share: float, low: Tensor, high: Tensor) -> Tensor:
    """Noise (B, C, H, W) a share of the way from `low` to `high`: along an arc, for each column, as A1111 goes."""
    a, b = (noise / noise.norm(dim=-2, keepdim=True) for noise in (low, high))
    cosine = (a * b).sum(-2, keepdim=True)
    if cosine.mean() > 0.9995:
        return low
    angle: Tensor = cosine.acos()
    return ((1 - share) * angle).sin() / angle.sin() * low + (share * angle).sin() / angle.sin() * high


def centered(noise: Tensor, ground: Tensor) -> Tensor:
    """`ground` (B, C, H, W) with noise of another size in its middle; what is larger than it is cut off evenly."""
    places, parts = [], []
    for mine, theirs in zip(ground.shape[-2:], noise.shape[-2:], strict=True):
        shift = (mine - theirs) // 2
        size = theirs + 2 * min(shift, 0)
        places.append(slice(max(shift, 0), max(shift, 0) + size))
        parts.append(slice(max(-shift, 0), max(-shift, 0) + size))
    result = ground.clone()
    result[..., places[0], places[1]] = noise[..., parts[0], parts[1]]
    return result


def fresh(
    seeds: Sequence[int],
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    source: Source = "cpu",
    delta: int = 0,
) -> NoiseSource:
    """New noise for every call: the draws that follow `initial` from the same generators.

    With a delta, A1111's eta noise seed delta, all draws of the generators of seed + delta.
    """
    streams = [stream(seed + int(delta), source) for seed in seeds]

    def draw(*levels: Tensor) -> Tensor:
        return torch.stack([draw_one(shape) for draw_one in streams]).to(device)

    if not delta:
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


def brownian_tree(
    seeds: Sequence[int],
    shape: Sequence[int],
    low: float,
    high: float,
    device: torch.device | str = "cpu",
    source: Source = "cpu",
) -> NoiseSource:
    """As `brownian`, with the numbers of k-diffusion's BrownianTreeNoiseSampler, which A1111 and ComfyUI use.

    It splits [low, high] in halves, rounded to six decimals, down to the points asked for; the noise of a split is
    drawn from a seed that numpy's SeedSequence spawns for its place.
    """
    ends = round(low, 6), round(high, 6)

    @lru_cache(64)
    def normal(seed: int, *key: int) -> Tensor:
        sequence = np.random.SeedSequence(seed, spawn_key=key, pool_size=24)
        return stream(int(sequence.generate_state(1)[0]), source)(shape)

    def within(tree: int, a: float, b: float) -> Tensor:
        """The increment over [a, b]: of the largest parts of the tree that make it up, from left to right."""
        seed, parts = seeds[tree], []
        todo = [(ends[0], ends[1], math.sqrt(high - low) * normal(seed), 0, 0)]
        while todo:
            start, end, w, place, depth = todo.pop()
            if a <= start and end <= b:
                parts.append(w)
                continue
            middle = round(0.5 * (end + start), 6)
            before, share = middle - start, 1 / (end - start)
            spread = math.sqrt(before * (end - middle) * share)
            left = before * w * share + spread * normal(seed, place, depth)
            if b > middle:
                todo.append((middle, end, w - left, 2 * place + 1, depth + 1))
            if a < middle:
                todo.append((start, middle, left, 2 * place, depth + 1))
        return sum(parts[1:], parts[0])

    def increment(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        sign = 1 if sigma < sigma_next else -1
        a, b = (round(min(max(float(t), ends[0]), ends[1]), 6) for t in sorted((sigma, sigma_next)))
        w = torch.stack([within(tree, a, b) for tree in range(len(seeds))]) * sign
        return (w / (sigma_next - sigma).abs().sqrt()).to(device)

    return increment
