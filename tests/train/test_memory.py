"""Gradient checkpointing: the same gradients with less kept for the backward pass."""

import pytest
import torch
from torch import Tensor, nn

from daguerre.models.unet import UNet
from daguerre.train.memory import checkpointed
from tests.toy import UNETS


def make(name: str = "sd1") -> UNet:
    torch.manual_seed(0)
    return UNet(UNETS[name])


def inputs(unet: UNet) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    c = unet.config
    shapes = (2, c.channels_in, 16, 16), (2, 5, c.context), *([(2, c.vector)] if c.vector else [])
    x, ctx, *vector = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, torch.tensor([10.0, 700.0]), ctx, *vector


def gradients(unet: UNet) -> tuple[Tensor, dict[str, Tensor]]:
    unet.zero_grad()
    loss = unet(*inputs(unet)).square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}


def kept(unet: UNet) -> int:
    """Bytes that wait for the backward pass, weights aside."""
    own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    storages: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        alive.append(tensor)  # so that no address is given twice
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(*inputs(unet))
    return sum(storages.values())


@pytest.mark.parametrize("name", UNETS)
def test_gradients_are_equal_to_the_last_bit(name):
    unet = make(name)
    expected = gradients(unet)
    with checkpointed(unet):
        torch.testing.assert_close(gradients(unet), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "share"), [("sd1", 0.1), ("sdxl", 0.2), ("tintype", 0.15)])
def test_less_is_kept(name, share):
    unet = make(name)
    plain = kept(unet)
    with checkpointed(unet):
        assert kept(unet) < share * plain


class LowRank(nn.Module):
    """What an adapter does: adds to the output of a layer from outside."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.down = nn.Parameter(torch.randn(2, layer.in_features) * 0.1)
        self.up = nn.Parameter(torch.randn(layer.out_features, 2) * 0.1)
        layer.register_forward_hook(lambda module, args, y: y + args[0] @ self.down.T @ self.up.T)


def test_adapters_of_a_frozen_network_get_their_gradients():
    unet = make().requires_grad_(requires_grad=False)
    adapters = nn.ModuleList(LowRank(layer) for layer in unet.modules() if isinstance(layer, nn.Linear))
    found = []
    for recompute in (False, True):
        adapters.zero_grad()
        if recompute:
            with checkpointed(unet):
                unet(*inputs(unet)).square().mean().backward()
        else:
            unet(*inputs(unet)).square().mean().backward()
        found.append([p.grad.clone() for p in adapters.parameters()])
    assert len(found[0]) > 20
    assert all(gradient.abs().max() > 0 for gradient in found[0])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_it_undoes_itself_also_after_an_error():
    unet = make()
    held = unet.mid_in.forward
    unet.mid_in.forward = held  # someone else's, from before
    before = [dict(vars(module)) for module in unet.modules()]

    def fail() -> None:
        with checkpointed(unet):
            assert "forward" in vars(unet.encoder[1])
            assert unet.mid_in.forward is not held
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [dict(vars(module)) for module in unet.modules()] == before


def test_it_serves_drawing_too():
    unet = make()
    with torch.no_grad():
        expected = unet(*inputs(unet))
        with checkpointed(unet):
            assert torch.equal(unet(*inputs(unet)), expected)
