"""Optimizers by name: the library's own numbers, groups, and resuming to the same bits."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import prodigyopt
import pytest
import schedulefree
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from daguerre.request import RequestError
from daguerre.train.config import Optimizer
from daguerre.train.optimizers import build, evaluating, restore_state, set_rate, state_tensors

COMPILED = pytest.param("adamw8bit", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])
NAMES = ["adamw", "adafactor", COMPILED, "prodigy", "schedule_free", "torch.optim:SGD", "torch.optim:RAdam"]
RATES = {"adafactor": 0.3, "prodigy": 1.0, "schedule_free": 0.05, "torch.optim:SGD": 0.02}


class Net(nn.Module):
    """One of each: a matrix large enough to be quantized, a convolution out of order in memory, zeros, a bias."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(4, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.down = nn.Linear(8 * 16, 64)
        self.up = nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
            self.up.weight.zero_()  # as in a LoRA

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(torch.relu(self.conv(x)).flatten(1)))


def settings(name: str) -> Optimizer:
    options = {"momentum": 0.9} if name.endswith("SGD") else {}
    return Optimizer(name=name, learning_rate=RATES.get(name, 0.01), weight_decay=0.1, options=options)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> float:
    x = torch.randn(16, 4, 4, 4, generator=torch.Generator().manual_seed(number))
    loss = (net(x) - x.mean(dim=(2, 3)) * 3 - 1).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def fit(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for number in steps:
        set_rate(optimizer, min(1.0, (number + 1) / 4))
        losses.append(step(net, optimizer, number))
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name):
    net = Net()
    optimizer = build(settings(name), dict(net.named_parameters()))
    losses = fit(net, optimizer, range(150))
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


def through_a_file(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return load_file(path)


@pytest.mark.parametrize("name", NAMES)
def test_resumed_equals_unbroken_to_the_last_bit(name, tmp_path):
    def begin() -> tuple[Net, torch.optim.Optimizer]:
        net = Net()
        rates = {} if name == "prodigy" else {"conv.*": 0.003}
        return net, build(replace(settings(name), rates=rates), dict(net.named_parameters()))

    unbroken, optimizer = begin()
    losses = fit(unbroken, optimizer, range(6))
    middle = (
        through_a_file(unbroken.state_dict(), tmp_path / "net"),
        through_a_file(state_tensors(optimizer), tmp_path / "optimizer"),
    )
    losses += fit(unbroken, optimizer, range(6, 12))

    resumed, again = begin()
    resumed.load_state_dict(middle[0])
    restore_state(again, middle[1])
    assert all(torch.equal(p, middle[0][key]) for key, p in resumed.state_dict().items())
    assert fit(resumed, again, range(6, 12)) == losses[6:]
    torch.testing.assert_close(resumed.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(state_tensors(again), state_tensors(optimizer), rtol=0, atol=0)


def plain(name: str, parameters: list[nn.Parameter], o: Optimizer) -> torch.optim.Optimizer:
    """As the library's own documentation has it."""
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    if name == "adamw":
        return torch.optim.AdamW(groups, o.learning_rate, o.betas)
    if name == "adafactor":
        return torch.optim.Adafactor(groups, o.learning_rate)
    if name == "prodigy":
        return prodigyopt.Prodigy(groups, o.learning_rate, o.betas)
    if name == "schedule_free":
        optimizer = schedulefree.AdamWScheduleFree(groups, o.learning_rate, o.betas)
        optimizer.train()
        return optimizer
    if name == "adamw8bit":
        from torchao.optim import AdamW8bit

        return AdamW8bit(groups, o.learning_rate, o.betas)
    return torch.optim.SGD(groups, o.learning_rate, momentum=0.9)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_numbers_are_those_of_the_plain_library(name):
    o, ours, theirs = settings(name), Net(), Net()
    optimizer, other = build(o, dict(ours.named_parameters())), plain(name, list(theirs.parameters()), o)
    for number in range(8):
        step(ours, optimizer, number)
        step(theirs, other, number)
    fused = {"rtol": 1e-5, "atol": 1e-6} if name == "adamw" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **fused)


def test_checkpoints_from_before_there_were_groups_go_on(tmp_path):
    """All parameters in one group, numbered as they come, and slots by their names."""
    net = Net()
    old = torch.optim.AdamW(net.parameters(), 0.01, (0.9, 0.99), fused=True)
    for number in range(3):
        step(net, old, number)
    state = old.state_dict()["state"]
    told = {f"{i}.{slot}": value for i, slots in state.items() for slot, value in slots.items()}
    assert "4.exp_avg_sq" in told
    optimizer = build(settings("adamw"), dict(net.named_parameters()))
    assert len(optimizer.param_groups) == 2
    restore_state(optimizer, through_a_file(told, tmp_path / "old"))
    for p in net.parameters():
        torch.testing.assert_close(optimizer.state[p], old.state[p], rtol=0, atol=0)
        assert optimizer.state[p]["exp_avg"].stride() == p.stride()
    assert state_tensors(optimizer).keys() == told.keys()


def test_parameters_that_never_had_a_gradient_have_no_state(tmp_path):
    def begin() -> tuple[Net, torch.optim.Optimizer]:
        net = Net()
        net.conv.requires_grad_(requires_grad=False)
        return net, build(settings("adamw"), dict(net.named_parameters()))

    net, optimizer = begin()
    fit(net, optimizer, range(2))
    told = through_a_file(state_tensors(optimizer), tmp_path / "told")
    _, again = begin()
    restore_state(again, told)
    assert state_tensors(again).keys() == told.keys() == {f"{i}.{s}" for i in (2, 3, 4) for s in SLOTS}


SLOTS = ("step", "exp_avg", "exp_avg_sq")


def test_nothing_told_is_nothing_restored():
    net = Net()
    optimizer = build(settings("prodigy"), dict(net.named_parameters()))
    told = state_tensors(optimizer)
    assert told.keys() >= {"group.0.d", "group.1.k"}
    fit(net, optimizer, range(3))
    restore_state(optimizer, told)
    assert {k: state_tensors(optimizer)[k] for k in told} == told
    assert not optimizer.state


def test_the_state_of_another_optimizer_is_refused():
    net = Net()
    adamw, prodigy = (build(settings(name), dict(net.named_parameters())) for name in ("adamw", "prodigy"))
    fit(net, adamw, range(1))
    with pytest.raises(ValueError, match=r"holds another optimizer's state than Prodigy's: '0.s' is missing"):
        restore_state(prodigy, state_tensors(adamw))
    small = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="state of 5 parameters or more, but 2 are trained"):
        restore_state(build(settings("adamw"), dict(small.named_parameters())), state_tensors(adamw))
    wide = nn.ParameterList([torch.zeros(2, *p.shape) for p in net.parameters()])
    with pytest.raises(ValueError, match=r"0.exp_avg has the shape \(8, 4, 3, 3\) in the checkpoint, not \(2, 8"):
        restore_state(build(settings("adamw"), dict(wide.named_parameters())), state_tensors(adamw))


def test_rates_by_pattern_and_decay_by_kind():
    names = {
        "unet.encoder.0.conv.weight": 4, "unet.encoder.0.conv.bias": 1, "unet.norm_out.weight": 1,
        "text.layers.0.attn.q.weight": 2, "text.token.weight": 2, "text.position.weight": 2,
    }  # fmt: skip
    named = {name: nn.Parameter(torch.zeros((2,) * ndim)) for name, ndim in names.items()}
    rates = {"text.layers.*": 0.3, "text.*": 0.2}
    o = Optimizer(learning_rate=0.1, rates=rates, weight_decay=0.5)
    optimizer = build(o, named)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert [of[id(p)] for p in named.values()] == [
        (0.1, 0.5), (0.1, 0.0), (0.1, 0.0), (0.3, 0.5), (0.2, 0.0), (0.2, 0.0),
    ]  # fmt: skip
    set_rate(optimizer, 0.5)
    assert sorted(g["lr"] for g in optimizer.param_groups) == [0.05, 0.05, 0.1, 0.15]
    set_rate(optimizer, 1.0)
    assert sorted(g["lr"] for g in optimizer.param_groups) == [0.1, 0.1, 0.2, 0.3]


def test_schedule_free_weights_are_there_for_so_long():
    net = Net()
    optimizer = build(settings("schedule_free"), dict(net.named_parameters()))
    fit(net, optimizer, range(10))
    trained = {k: v.clone() for k, v in net.state_dict().items()}
    with evaluating(optimizer):
        used = {k: v.clone() for k, v in net.state_dict().items()}
    torch.testing.assert_close(net.state_dict(), trained, rtol=0, atol=0)
    z = optimizer.state[net.down.weight]["z"]
    torch.testing.assert_close(used["down.weight"], trained["down.weight"].lerp(z, 1 - 1 / 0.9))
    assert not torch.equal(used["down.weight"], trained["down.weight"])
    assert fit(net, optimizer, range(10, 12))  # it may step again


def test_other_optimizers_are_left_alone_while_evaluating():
    net = Net()
    optimizer = build(settings("adamw"), dict(net.named_parameters()))
    before = net.down.weight.detach().clone()
    with evaluating(optimizer):
        assert torch.equal(net.down.weight, before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adamv"}, r"optimizer.name 'adamv' is unknown; did you mean 'adamw'"),
        ({"name": "zzz"}, "choose one of adamw, .*, or module:Class"),
        ({"name": "no.such:Thing"}, "cannot be had: No module named 'no'; is it installed"),
        ({"name": "torch.optim:Adamm"}, "names no class: .*Adamm"),
        ({"name": "torch.nn:Linear"}, r"'torch.nn:Linear' is no torch.optim.Optimizer"),
        ({"name": "torch optim:SGD"}, "names no class"),
        ({"options": {"amsgard": True}}, "adamw has no 'amsgard'; did you mean 'amsgrad'"),
        ({"options": {"lr": 1}}, r"lr is set by optimizer.learning_rate"),
        ({"options": {"eps": -1.0}}, "cannot be made .*eps"),
        ({"learning_rate": -1.0}, "cannot be made .*learning rate"),
        ({"rates": {"dwn.*": 1.0}}, r"no trained parameter is called 'dwn.\*'; near are down"),
        ({"name": "prodigy", "learning_rate": 1.0, "rates": {"down.*": 0.5}}, "prodigy finds one rate"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(changes, message):
    with pytest.raises(RequestError, match=message):
        build(replace(Optimizer(), **changes), dict(Net().named_parameters()))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(RequestError, match=r"'schedule_free' cannot be had: .*; pip install 'daguerre\[train\]'"):
        build(Optimizer(name="schedule_free"), dict(Net().named_parameters()))


@pytest.mark.filterwarnings("ignore")
def test_8_bit_without_a_compiler_is_told_before_the_first_step(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RequestError, match=r"needs a C\+\+ compiler, and there is no"):
        build(Optimizer(name="adamw8bit"), dict(Net().named_parameters()))


def test_a_rate_that_is_too_small_for_prodigy_is_told(caplog, capsys):
    build(Optimizer(name="prodigy"), dict(Net().named_parameters()))
    assert "1 is usual" in caplog.text
    assert capsys.readouterr().out == ""


def test_a_state_that_no_file_can_hold_is_told():
    net = nn.Linear(2, 2)
    optimizer = build(Optimizer(name="torch.optim:LBFGS"), {"weight": net.weight})
    optimizer.state[net.weight]["old_dirs"] = []
    with pytest.raises(RequestError, match="LBFGS remembers 'old_dirs', a list"):
        state_tensors(optimizer)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_that_was_not_built_here_goes_on_as_if_nothing_had_happened(layout):
    """Also where parameters lie in another order than in files: the fused step walks memory."""

    def run(broken: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Conv2d(8, 8, 3).to(memory_format=layout)
        optimizer = torch.optim.AdamW(layer.parameters(), 0.01, fused=True)
        for step in range(4):
            if broken and step == 2:
                told = {k: v.contiguous().clone() for k, v in state_tensors(optimizer).items()}
                optimizer = torch.optim.AdamW(layer.parameters(), 0.01, fused=True)
                restore_state(optimizer, told)
            x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            layer(x.to(memory_format=layout)).square().mean().backward()
            optimizer.step()
        return layer.weight.detach()

    assert torch.equal(run(broken=True), run(broken=False))
