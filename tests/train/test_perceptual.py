import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from daguerre.files.checkpoint import CheckpointError
from daguerre.train.perceptual import CHANNELS, MEAN, STD, Perceptual


def vgg(path, **changes):
    """VGG-16 with random weights, named as torchvision names it."""
    torch.manual_seed(0)
    state, index, cin = {}, 0, 3
    for widths in CHANNELS:
        for cout in widths:
            conv = nn.Conv2d(cin, cout, 3)
            state |= {f"features.{index}.weight": conv.weight.data * 1.5, f"features.{index}.bias": conv.bias.data}
            index, cin = index + 2, cout
        index += 1
    save_file({k: v for k, v in {**state, **changes}.items() if v is not None}, path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return vgg(tmp_path_factory.mktemp("vgg") / "vgg16.safetensors")


def test_equal_pictures_are_not_apart_and_noise_is_worse_than_little_noise(path):
    measure, picture = Perceptual(path), torch.rand(2, 3, 32, 32) * 2 - 1
    noise = torch.randn_like(picture)
    near, far = measure(picture, picture + 0.05 * noise), measure(picture, picture + 0.5 * noise)
    assert measure(picture, picture).eq(0).all()
    assert (near > 0).all()
    assert (far > near).all()


def test_the_distance_is_that_of_lpips(path, tmp_path):
    """Written out for the first block, whose channel weights alone are not 0."""
    lins = {f"lin{i}.model.1.weight": torch.zeros(1, c[-1], 1, 1) for i, c in enumerate(CHANNELS)}
    lins["lin0.model.1.weight"] = torch.rand(1, 64, 1, 1)
    file = vgg(tmp_path / "lpips.safetensors", **lins)
    measure = Perceptual(file)
    a, b = torch.rand(2, 2, 3, 16, 16).mul(2).sub(1)

    def first(x):
        x = (x / 2 + 0.5 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        for conv in measure.blocks[0]:
            x = F.conv2d(x, conv.weight, conv.bias, padding=1).clamp(min=0)
        return x / x.norm(dim=1, keepdim=True)

    expected = ((first(a) - first(b)).square() * lins["lin0.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(measure(a, b), expected)


def test_gradients_reach_the_picture_and_no_weight(path):
    measure = Perceptual(path)
    made = torch.zeros(1, 3, 16, 16, requires_grad=True)
    measure(made, torch.rand(1, 3, 16, 16)).sum().backward()
    assert made.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in measure.parameters())


@pytest.mark.parametrize("wrong", [None, torch.zeros(64, 3, 5, 5)])
def test_a_file_that_is_no_vgg_is_named(tmp_path, wrong):
    file = vgg(tmp_path / "other.safetensors", **{"features.0.weight": wrong})
    with pytest.raises(CheckpointError, match=r"other\.safetensors: 'features\.0\.weight': .*torchvision"):
        Perceptual(file)
