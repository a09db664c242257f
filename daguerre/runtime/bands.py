"""A VAE's decoder in less memory: the same picture, each layer worked out in bands of rows.

What a layer needs beside its input and output (activations, padded and reordered copies) exists for one band
at a time, and a residual block's second convolution overwrites the output of its first. GroupNorm takes its
statistics over the whole picture, so unlike tiling this leaves no seams and no shift of color.
Shape suffixes: B batch, C channels, H W height and width, b rows of a band.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(Protocol):
    """The layer conv2(silu(norm2(conv1(silu(norm1(x)))))) + skip(x)."""

    norm1: nn.GroupNorm
    conv1: nn.Conv2d
    norm2: nn.GroupNorm
    conv2: nn.Conv2d
    skip: nn.Module


class Upsampling(Protocol):
    """The layer conv(x enlarged to twice its size)."""

    conv: nn.Conv2d


class Decoder(Protocol):
    """The network conv_out(silu(norm_out(blocks(mid(conv_in(z)))))), whose other layers run as they are."""

    conv_in: nn.Conv2d
    mid: nn.Sequential
    blocks: nn.Sequential
    norm_out: nn.GroupNorm
    conv_out: nn.Conv2d


class AutoEncoder(Protocol):
    """What `decode_in_bands` needs of a VAE."""

    config: Any  # has the `scale` of its latents
    rows_meet: bool  # the first row of a picture is the neighbor of its last
    post_quant: nn.Conv2d
    decoder: Any  # a Decoder


@torch.no_grad()
def decode_in_bands(vae: AutoEncoder, z_BCHW: Tensor, rows: int = 16) -> Tensor:
    """`vae.decode(z)`: scaled latents to pixels, in bands of `rows` rows of each feature map."""
    if rows < 1:
        raise ValueError(f"rows is {rows}; a band has at least 1 row")
    decoder: Decoder = vae.decoder
    meet = vae.rows_meet
    h = decoder.conv_in(vae.post_quant(z_BCHW / vae.config.scale))
    for layer in [*decoder.mid, *decoder.blocks]:
        if hasattr(layer, "conv2"):
            h = _residual(cast(Residual, layer), h, rows, meet)
        elif hasattr(layer, "conv"):
            conv = cast(Upsampling, layer).conv
            h = _convolve(conv, h, _room(conv, h, 2), rows, meet, partial(F.interpolate, scale_factor=2.0))
        else:
            h = layer(h)
    return _convolve(decoder.conv_out, h, _room(decoder.conv_out, h), rows, meet, _norm_silu(decoder.norm_out, h))


def _residual(block: Residual, x_BCHW: Tensor, rows: int, meet: bool) -> Tensor:
    h = _convolve(block.conv1, x_BCHW, _room(block.conv1, x_BCHW), rows, meet, _norm_silu(block.norm1, x_BCHW))
    _convolve(block.conv2, h, h, rows, meet, _norm_silu(block.norm2, h))
    for top in range(0, h.shape[2], rows):
        h[:, :, top : top + rows] += block.skip(x_BCHW[:, :, top : top + rows])
    return h


def _room(conv: nn.Conv2d, x_BCHW: Tensor, scale: int = 1) -> Tensor:
    """An unfilled feature map for the output of `conv`, `scale` times as large as x."""
    b, _, h, w = x_BCHW.shape
    return x_BCHW.new_empty(b, conv.out_channels, scale * h, scale * w)


def _convolve(
    conv: nn.Conv2d, source_BCHW: Tensor, target_BCHW: Tensor, rows: int, meet: bool, before: Callable[[Tensor], Tensor]
) -> Tensor:
    """Fills `target` with conv(before(source)); they may be one tensor. `conv` is 3x3 and pads.

    A band is taken with one row more at either side, and what the padding did to these rows is cut off. The first and
    the last row have none beyond them but each other where they meet.
    """
    scale, height = target_BCHW.shape[2] // source_BCHW.shape[2], source_BCHW.shape[2]
    above = source_BCHW[:, :, height - 1 :].clone() if meet else source_BCHW[:, :, :0]
    beyond = source_BCHW[:, :, :1].clone() if meet else above
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        below = source_BCHW[:, :, bottom : bottom + 1] if bottom < height else beyond
        band = torch.cat([above, source_BCHW[:, :, top:bottom], below], 2)
        first = scale * above.shape[2]
        above = source_BCHW[:, :, bottom - 1 : bottom].clone()  # before `target` overwrites it
        y = conv(before(band))[:, :, first : first + scale * (bottom - top)]
        target_BCHW[:, :, scale * top : scale * bottom] = y
    return target_BCHW


def _norm_silu(norm: nn.GroupNorm, x_BCHW: Tensor) -> Callable[[Tensor], Tensor]:
    """SiLU(norm(.)) for bands of x, with the statistics of all of x, in float32 as GroupNorm takes them."""
    moments = [torch.var_mean(g.float(), (1, 2, 3), correction=0) for g in x_BCHW.chunk(norm.num_groups, 1)]
    var_BG, mean_BG = (torch.stack(m, 1) for m in zip(*moments, strict=True))
    size = norm.num_channels // norm.num_groups
    gain_BC = (var_BG + norm.eps).rsqrt().repeat_interleave(size, 1) * norm.weight.float()
    shift_BC = norm.bias.float() - mean_BG.repeat_interleave(size, 1) * gain_BC
    gain, shift = gain_BC[:, :, None, None], shift_BC[:, :, None, None]
    return lambda x_BCbW: F.silu(torch.addcmul(shift, x_BCbW, gain), inplace=True).to(x_BCHW.dtype)
