"""Attached, a LoRA does what it does merged; detached, it never was."""

import copy
import hashlib
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from daguerre.adapters.change import AdapterError, layers_of
from daguerre.adapters.config import LoRAConfig
from daguerre.adapters.lora import Factors, LoRA
from daguerre.families.model import Model
from tests.adapters.made import KINDS, apart, outputs, random_lora
from tests.toy import toy


def digest(model: Model) -> str:
    whole = hashlib.sha256()
    for part in model.parts.values():
        for name, value in part.state_dict().items():
            whole.update(name.encode() + value.numpy().tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_attached_equals_merged(kind: str, dora: bool) -> None:
    model = toy(kind)
    lora, plain = random_lora(model, convolutions=True, conv_rank=3, dora=dora), outputs(model)
    with lora.attach(model, 0.7, 0.4):
        attached = outputs(model)
    assert apart(attached, plain) > 0.05
    assert apart(outputs(model), plain) == 0
    lora.merge(model, 0.7, 0.4)
    assert apart(outputs(model), attached) <= 1e-5


@pytest.mark.parametrize("dora", [False, True])
@torch.no_grad()
def test_one_layer_against_its_formula(dora: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    down, up, magnitude = (torch.randn(shape, generator=generator) for shape in [(3, 6), (5, 3), (5,)])
    factors, layer = Factors(down, up, 1.5, magnitude if dora else None), nn.Linear(6, 5)
    whole = layer.weight + 0.5 * up @ down
    expected = whole * (magnitude / whole.norm(dim=1))[:, None] if dora else whole
    x = torch.randn(2, 4, 6, generator=generator)
    assert torch.allclose(layer.weight + factors.delta(layer.weight), expected, atol=1e-6)
    assert torch.allclose(layer(x) + factors(x, layer), F.linear(x, expected, layer.bias), atol=1e-5)


@given(
    st.integers(1, 3),
    st.sampled_from([1, 3]),
    st.integers(1, 2),
    st.integers(0, 1),
    st.booleans(),
    st.integers(0, 2**31),
)
@settings(max_examples=40)
@torch.no_grad()
def test_convolutions_of_any_shape(rank: int, kernel: int, stride: int, padding: int, dora: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Conv2d(4, 6, kernel, stride, padding)
    down, up = (
        torch.randn(rank, 4, kernel, kernel, generator=generator),
        torch.randn(6, rank, 1, 1, generator=generator),
    )
    factors = Factors(down, up, None, torch.rand(6, generator=generator) + 0.5 if dora else None)
    x = torch.randn(2, 4, 5, 7, generator=generator)
    expected = F.conv2d(x, layer.weight + factors.delta(layer.weight), layer.bias, stride, padding)
    assert torch.allclose(layer(x) + factors(x, layer), expected, atol=1e-4)


@torch.no_grad()
def test_a_new_one_changes_nothing_and_is_as_random_as_its_seed() -> None:
    model = toy("sd1")
    plain = outputs(model)
    for dora in (False, True):
        lora = LoRA.new(model, LoRAConfig(rank=4, text=True, dora=dora), 3)
        with lora.attach(model):
            assert apart(outputs(model), plain) <= 1e-6
    again, other = (LoRA.new(model, LoRAConfig(rank=4, text=True), seed).state_dict() for seed in (3, 4))
    first = LoRA.new(model, LoRAConfig(rank=4, text=True), 3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    downs = [key for key in first if key.endswith(".down")]
    assert not any(torch.equal(first[key], other[key]) for key in downs)
    fewer = LoRA.new(model, LoRAConfig(rank=4, targets=("*cross_attn.q",)), 3).state_dict()
    assert fewer
    assert all(torch.equal(first[key], fewer[key]) for key in fewer), "one layer must not shift another's numbers"
    bound = 1 / model.unet.config.context**0.5
    key = next(key for key in first if "cross_attn.k.down" in key)
    assert 0.9 * bound < first[key].abs().max() <= bound


@torch.no_grad()
def test_200_cycles_leave_the_model_as_it_was() -> None:
    model = toy("sd1")
    before, lora = digest(model), random_lora(model, convolutions=True)
    for _ in range(200):
        with lora.attach(model):
            pass
    with pytest.raises(RuntimeError), lora.attach(model):
        raise RuntimeError
    assert digest(model) == before
    assert not any(module._forward_hooks for part in model.parts.values() for module in part.modules())


@torch.no_grad()
def test_several_at_once_add_up() -> None:
    model = toy("sd1")
    first, second = random_lora(model, 1, size=0.05), random_lora(model, 2, size=0.05, dora=True)
    with first.attach(model, 0.5), second.attach(model, -0.3):
        both = outputs(model)
    with second.attach(model, -0.3), first.attach(model, 0.5):
        assert apart(outputs(model), both) <= 1e-5
    deltas = [dict(first.deltas(model, 0.5)), dict(second.deltas(model, -0.3))]
    for path, layer in layers_of(model).items():
        for delta in deltas:
            layer.weight.data = layer.weight + delta.get(path, 0)
    assert apart(outputs(model), both) <= 1e-5


def test_gradients_reach_the_factors_and_nothing_else() -> None:
    model = toy("sd1")
    lora = random_lora(model, convolutions=True, dora=True)
    with lora.attach(model):
        sum(y.square().mean() for y in outputs(model)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lora.parameters())
    assert all(p.grad is None for part in model.parts.values() for p in part.parameters())


def test_the_norm_is_a_constant_for_gradients() -> None:
    """With a magnitude equal to the norm, DoRA's gradient is LoRA's (arXiv:2402.09353, section 4.3)."""
    generator = torch.Generator().manual_seed(0)
    down, up, x = (torch.randn(shape, generator=generator) for shape in [(2, 6), (5, 2), (3, 6)])
    layer = nn.Linear(6, 5, bias=False)
    plain = Factors(down.clone(), up.clone())
    norm = (layer.weight + plain.product()).norm(dim=1).detach()
    dora = Factors(down.clone(), up.clone(), None, norm)
    for one in (plain, dora):
        (one(x, layer) ** 2).sum().backward()
    assert torch.allclose(dora.down.grad, plain.down.grad, rtol=1e-4, atol=1e-5)
    assert torch.allclose(dora.up.grad, plain.up.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_under_autocast_and_with_a_base_in_bfloat16(dora: bool) -> None:
    model = toy("sd1")
    lora = random_lora(model, convolutions=True, dora=dora)
    with torch.no_grad(), lora.attach(model):
        exact = outputs(model)
    with lora.attach(model), torch.autocast("cpu", torch.bfloat16):
        rounded = outputs(model)
        sum(y.float().square().mean() for y in rounded).backward()
    assert 0 < apart([y.float() for y in rounded], exact) < 0.1
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in lora.parameters())
    layer = nn.Linear(32, 32).bfloat16()
    one = Factors(torch.randn(2, 32), torch.randn(32, 2), None, torch.ones(32) if dora else None)
    assert one(torch.randn(3, 32).bfloat16(), layer).isfinite().all()


def test_attaching_takes_no_time() -> None:
    model = toy("sdxl")
    lora, seconds = random_lora(model, convolutions=True), []
    for _ in range(5):
        begun = time.perf_counter()
        with lora.attach(model):
            pass
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) <= 0.05


def test_what_is_trained_follows_the_settings() -> None:
    model = toy("sd1")

    def paths(**config: object) -> set[str]:
        return set(LoRA.new(model, LoRAConfig(rank=2, **config), 0).factors)

    standard = paths()
    assert all(path.startswith("unet.") and "attn." in path for path in standard)
    assert "unet.mid_attn.blocks.0.cross_attn.q" in standard
    assert "text.layers.0.q" in paths(text=True) - standard
    more = paths(convolutions=True) - standard
    assert {path.rpartition(".")[2] for path in more} == {"conv1", "conv2", "skip"}
    assert paths(targets=("*cross_attn.?",)) == {
        path for path in standard if "cross_attn." in path and "out" not in path
    }
    ranks = {"*mid_attn*": 0, "*cross_attn.k": 5}
    lora = LoRA.new(model, LoRAConfig(rank=2, conv_rank=3, convolutions=True, alpha=4, ranks=ranks), 0)
    assert not any("mid_attn" in path for path in lora.factors)
    for path, one in lora.factors.items():
        assert one.rank == (5 if path.endswith("cross_attn.k") else 3 if one.down.ndim == 4 else 2)
        assert one.strength == 4 / one.rank
    assert LoRA.new(model, LoRAConfig(rank=2), 0).factors["unet.mid_attn.blocks.0.cross_attn.q"].strength == 1
    names = dict(lora.named_parameters())
    assert "unet.encoder.1.res.conv1.down" in names


def test_dropout_asks_for_its_numbers() -> None:
    model, asked = toy("sd1"), list[tuple[str, int, int]]()
    lora = random_lora(model, dropout=0.5)

    def source(path: str, pictures: int, features: int) -> torch.Tensor:
        asked.append((path, pictures, features))
        return torch.rand(pictures, features, generator=torch.Generator().manual_seed(len(asked)))

    with torch.no_grad(), lora.attach(model):
        with pytest.raises(AdapterError, match="random"):
            outputs(model)
        lora.random = source
        first = outputs(model)
        assert ("unet.mid_attn.blocks.0.cross_attn.k", 2, 32) in asked
        asked.clear()
        assert apart(outputs(model), first) == 0
        lora.eval()
        assert apart(outputs(model), first) > 1e-3
    with pytest.raises(AdapterError, match="dropout"):
        LoRA({}, 1.0)


def test_a_copy_is_its_own() -> None:
    model = toy("sd1")
    lora = random_lora(model)
    twin = copy.deepcopy(lora)
    with torch.no_grad():
        next(iter(twin.factors.values())).up.add_(1)
    path = next(iter(lora.factors))
    assert not torch.equal(twin.factors[path].up, lora.factors[path].up)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"targets": ("*atn.q",)}, "'*atn.q' fits none"),
        ({"ranks": {"*conv9": 2}}, "'*conv9' fits none"),
        ({"rank": 1000}, "rank 1000"),
        ({"rank": -1}, "rank -1"),
        ({"ranks": {"*": 0}}, "no layer is left"),
        ({"targets": ("text.*",)}, "set lora.text"),
    ],
)
def test_settings_that_fit_nothing(config: dict[str, object], words: str) -> None:
    with pytest.raises(AdapterError) as caught:
        LoRA.new(toy("sd1"), LoRAConfig(**config), 0)
    assert words in str(caught.value)


def test_a_model_of_another_kind_is_named() -> None:
    lora, other = random_lora(toy("sd1")), toy("sdxl")
    with pytest.raises(AdapterError, match="sdxl"), lora.attach(other):
        pass
    wide = LoRA({"unet.conv_out": Factors(torch.zeros(1, 99, 3, 3), torch.zeros(4, 1, 1, 1))})
    with pytest.raises(AdapterError, match=r"'unet.conv_out'.*\[4, 99, 3, 3\].*\[4, 64, 3, 3\]"):
        wide.merge(other)
    with pytest.raises(AdapterError, match="low-memory"):
        random_lora(other).merge(toy("sdxl", low_memory=True))
