"""How different two pictures look: distances of VGG-16 features (arXiv:1801.03924, LPIPS), from a local file."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files.checkpoint import CheckpointError
from ..files.reader import open_checkpoint

CHANNELS = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)  # of VGG-16's convolutions, by block
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]


class Perceptual(nn.Module):
    """LPIPS distance of pictures in [-1, 1], both (B, 3, H, W) -> (B,); 0 for equal ones.

    The file holds VGG-16 as torchvision names it (`features.0.weight` ...), and at will LPIPS' own weights of the
    channels (`lin0.model.1.weight` ... `lin4`), without which all channels of a block count alike.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path):
        super().__init__()
        checkpoint = open_checkpoint(path)
        self.blocks, self.weights = nn.ModuleList(), nn.ParameterList()
        index, cin = 0, 3
        for number, widths in enumerate(CHANNELS):
            block = nn.ModuleList()
            for cout in widths:
                conv = nn.Conv2d(cin, cout, 3, padding=1)
                for name, parameter in conv.named_parameters():
                    key, wanted = f"features.{index}.{name}", tuple(parameter.shape)
                    if key not in checkpoint.tensors or checkpoint.tensors[key].shape != wanted:
                        remedy = "Name a VGG-16 as torchvision saves it"
                        raise CheckpointError(
                            path, f"a tensor of shape {list(wanted)} should be here", key=key, remedy=remedy
                        )
                    parameter.data = checkpoint.tensor(key).float()
                block.append(conv)
                index, cin = index + 2, cout
            self.blocks.append(block)
            lin = f"lin{number}.model.1.weight"
            even = torch.full((1, cin, 1, 1), 1 / cin)
            self.weights.append(checkpoint.tensor(lin).float() if lin in checkpoint.tensors else even)
            index += 1  # the pooling
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.requires_grad_(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Of each block, every place's features at length 1."""
        h, found = ((pictures + 1) / 2 - self.mean) / self.std, []
        for number, block in enumerate(self.blocks):
            h = F.max_pool2d(h, 2) if number else h
            for conv in block:  # type: ignore[attr-defined]
                h = F.relu(conv(h))
            found.append(F.normalize(h, dim=1, eps=1e-10))
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(self.features(a), self.features(b), self.weights, strict=True)
        return torch.stack([((x - y) ** 2 * w).sum(dim=1).mean(dim=(1, 2)) for x, y, w in pairs]).sum(dim=0)
