import pytest
import torch
from torch.nn import functional as F

from daguerre.models.enlarger import Enlarger, EnlargerConfig


@pytest.mark.parametrize("config", [EnlargerConfig(width=8, blocks=2), EnlargerConfig(6, 8, 1, 8, 1, residual=False)])
def test_shapes(config):
    made = Enlarger(config)(torch.zeros(2, config.channels, 6, 4))
    assert made.shape == (2, 3, 6 * config.scale, 4 * config.scale)


def test_with_silent_outputs_it_is_the_bicubic_enlargement():
    network, x = Enlarger(EnlargerConfig(width=8, blocks=1)), torch.randn(1, 3, 8, 8)
    torch.nn.init.zeros_(network.conv_out.weight)
    torch.nn.init.zeros_(network.conv_out.bias)
    assert torch.equal(network(x), F.interpolate(x, scale_factor=4, mode="bicubic"))


@pytest.mark.parametrize(("blocks", "fold"), [(0, 1), (1, 2), (3, 2), (2, 4)])
def test_nothing_beyond_the_margin_decides_a_pixel(blocks, fold):
    config = EnlargerConfig(width=4, blocks=blocks, fold=fold)
    network, side = Enlarger(config), 2 * config.margin + 2 * fold
    x = torch.randn(1, 3, side, fold, requires_grad=True)
    middle = config.margin * config.scale
    network(x)[:, :, middle : middle + config.scale * fold].square().sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert seen.min() >= 0
    assert seen.max() < config.margin + fold + config.margin
    assert seen.max() - seen.min() + 1 <= 2 * config.margin + fold
    assert seen.max() - seen.min() + 1 > fold * (2 * blocks + 2)
