"""Gaussian blur of latents and features."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def blur(x: Tensor, sigma: float, size: int | None = None) -> Tensor:
    """x (B, C, H, W) blurred by a standard deviation of sigma > 0 places, its edges mirrored; infinity gives the mean.

    The kernel has `size` places along a side, an odd number, by default 6 sigma; at most what mirrored edges allow.
    """
    if math.isinf(sigma):
        return x.mean((-2, -1), keepdim=True).expand_as(x)
    size = math.ceil(6 * sigma) // 2 * 2 + 1 if size is None else size
    for _ in range(2):
        x = _rows(x, sigma, size).transpose(-1, -2)
    return x


def _rows(x: Tensor, sigma: float, size: int) -> Tensor:
    *_, channels, _, width = x.shape
    reach = min(size // 2, (width - width % 2) // 2)
    places = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (weights / weights.sum()).to(x.dtype).expand(channels, 1, 1, -1)
    return F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="reflect"), kernel, groups=channels)
