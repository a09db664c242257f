"""Files of ESRGAN's family as they are published, at toy width, and what the papers say that their networks compute.

The reference goes by the files' own names, layer by layer, so that nothing here passes through our key tables.
"""

from functools import partial
from itertools import pairwise

import torch
from torch.nn import functional as F

# Of each layout: names of the first convolution, of one in a dense block (counted from 1), after the blocks, after an
# enlargement (from 1), the last but one and the last.
NAMES = {
    "first": lambda blocks, doublings: (
        "model.0",
        lambda n, r, c: f"model.1.sub.{n}.RDB{r}.conv{c}.0",
        f"model.1.sub.{blocks}",
        lambda u: f"model.{3 * u}",
        f"model.{3 * doublings + 2}",
        f"model.{3 * doublings + 4}",
    ),
    "later": lambda blocks, doublings: (
        "conv_first",
        lambda n, r, c: f"RRDB_trunk.{n}.RDB{r}.conv{c}",
        "trunk_conv",
        lambda u: f"upconv{u}",
        "HRconv",
        "conv_last",
    ),
    "real": lambda blocks, doublings: (
        "conv_first",
        lambda n, r, c: f"body.{n}.rdb{r}.conv{c}",
        "conv_body",
        lambda u: f"conv_up{u}",
        "conv_hr",
        "conv_last",
    ),
}
WIDTH, GROWTH = 8, 4


def rrdb_file(layout, *, blocks=2, doublings=2, fold=1, seed=0):
    """The tensors of an RRDBNet."""
    random, state = torch.Generator().manual_seed(seed), {}
    first, dense, body, up, hr, last = NAMES[layout](blocks, doublings)

    def conv(name, channels_in, channels_out):
        state[f"{name}.weight"] = torch.randn(channels_out, channels_in, 3, 3, generator=random) / channels_in**0.5 / 3
        state[f"{name}.bias"] = torch.randn(channels_out, generator=random) / 10

    conv(first, 3 * fold**2, WIDTH)
    for n in range(blocks):
        for r in (1, 2, 3):
            for c in (1, 2, 3, 4, 5):
                conv(dense(n, r, c), WIDTH + (c - 1) * GROWTH, WIDTH if c == 5 else GROWTH)
    conv(body, WIDTH, WIDTH)
    for u in range(1, doublings + 1):
        conv(up(u), WIDTH, WIDTH)
    conv(hr, WIDTH, WIDTH)
    conv(last, WIDTH, 3)
    return state


def rrdb_reference(state, layout, x, *, blocks=2, doublings=2, fold=1):
    """arXiv:1809.00219, figure 4 and section 3.1: beta 0.2, leaky ReLUs of slope 0.2, nearest enlargements."""
    first, dense, body, up, hr, last = NAMES[layout](blocks, doublings)
    bend = partial(F.leaky_relu, negative_slope=0.2)

    def conv(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def dense_block(x, n, r):
        x1 = bend(conv(dense(n, r, 1), x))
        x2 = bend(conv(dense(n, r, 2), torch.cat((x, x1), 1)))
        x3 = bend(conv(dense(n, r, 3), torch.cat((x, x1, x2), 1)))
        x4 = bend(conv(dense(n, r, 4), torch.cat((x, x1, x2, x3), 1)))
        return x + 0.2 * conv(dense(n, r, 5), torch.cat((x, x1, x2, x3, x4), 1))

    shallow = deep = conv(first, F.pixel_unshuffle(x, fold))
    for n in range(blocks):
        inner = deep
        for r in (1, 2, 3):
            inner = dense_block(inner, n, r)
        deep = deep + 0.2 * inner
    h = shallow + conv(body, deep)
    for u in range(1, doublings + 1):
        h = bend(conv(up(u), h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))
    return conv(last, bend(conv(hr, h)))


def compact_file(*, convs=3, scale=2, seed=0):
    """The tensors of an SRVGGNetCompact."""
    random, state = torch.Generator().manual_seed(seed), {}
    widths = [3, *[WIDTH] * (convs + 1), 3 * scale**2]
    for i, (a, b) in enumerate(pairwise(widths)):
        state[f"body.{2 * i}.weight"] = torch.randn(b, a, 3, 3, generator=random) / a**0.5 / 3
        state[f"body.{2 * i}.bias"] = torch.randn(b, generator=random) / 10
        if i <= convs:
            state[f"body.{2 * i + 1}.weight"] = torch.rand(b, generator=random)
    return state


def compact_reference(state, x, *, convs=3, scale=2):
    """Convolutions with PReLUs, one sub-pixel convolution, and the nearest enlargement of the input."""
    h = x
    for i in range(convs + 2):
        h = F.conv2d(h, state[f"body.{2 * i}.weight"], state[f"body.{2 * i}.bias"], padding=1)
        if i <= convs:
            slope = state[f"body.{2 * i + 1}.weight"][:, None, None]
            h = torch.where(h > 0, h, slope * h)
    batch, _, height, width = x.shape
    h = h.reshape(batch, 3, scale, scale, height, width).permute(0, 1, 4, 2, 5, 3)
    return h.reshape(batch, 3, height * scale, width * scale) + x.repeat_interleave(scale, 2).repeat_interleave(
        scale, 3
    )
