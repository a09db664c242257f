"""Attention changed from outside: it takes effect, nests, and leaves nothing behind."""

import pytest
import torch

from daguerre.models.attention import Attention, attending
from daguerre.models.unet import UNet, UNetConfig


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet(UNetConfig((32, 32), (0, 1), 16, blocks=1, head_width=16)).eval()


def values_only(path, attend):
    """Self-attention in which every place sees itself alone."""
    return (lambda q, k, v: v) if path.endswith("self_attn") else None


def drawn(unet):
    g = torch.Generator().manual_seed(0)
    given = torch.randn(1, 4, 8, 8, generator=g), torch.tensor([500.0]), torch.randn(1, 7, 16, generator=g)
    with torch.no_grad():
        return unet(*given)


def test_a_change_holds_for_its_body_and_leaves_nothing(unet):
    plain = drawn(unet)
    with attending(unet, values_only):
        assert not torch.allclose(drawn(unet), plain)
    assert torch.equal(drawn(unet), plain)
    assert not any("attend" in vars(module) for module in unet.modules() if isinstance(module, Attention))


def test_paths_name_what_is_changed(unet):
    seen = []
    with attending(unet, lambda path, attend: seen.append(path)):
        pass
    assert "mid_attn.blocks.0.cross_attn" in seen
    assert len(seen) == 2 * len([p for p in seen if p.endswith("self_attn")])


def test_changes_nest_and_an_error_undoes_them(unet):
    plain, halved = drawn(unet), lambda path, attend: lambda q, k, v: attend(q, k, v) / 2
    with attending(unet, halved):
        once = drawn(unet)
        with attending(unet, halved):
            assert not torch.allclose(drawn(unet), once)
        with pytest.raises(RuntimeError), attending(unet, halved):
            unet(torch.randn(1, 5, 8, 8), torch.tensor([500.0]), torch.randn(1, 7, 16))
        assert torch.equal(drawn(unet), once)
    assert torch.equal(drawn(unet), plain)
