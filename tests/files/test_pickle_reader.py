"""Checkpoints as torch.save writes them, read bit for bit and without Python's pickle machine."""

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from daguerre.files.checkpoint import CheckpointError
from daguerre.files.pickle_reader import STORAGES, open_pickle

from .hostile_pickles import legacy, model, whole, zipped

ZIP_OR_LEGACY = pytest.mark.parametrize("zipped_form", [True, False], ids=["zip", "legacy"])


def save(path: Path, tree: Any, zipped_form: bool = True, protocol: int = 2) -> Path:
    torch.save(tree, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped_form)
    return path


def noise(dtype: torch.dtype, *shape: int) -> Tensor:
    """Every bit drawn, so NaN payloads and subnormal numbers are among the values."""
    generator = torch.Generator().manual_seed(0)
    count = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).reshape(shape)


def same_bits(a: Tensor, b: Tensor) -> bool:
    x, y = (t.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8) for t in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(x, y)


@ZIP_OR_LEGACY
@pytest.mark.parametrize("dtype", STORAGES.values(), ids=str)
def test_every_dtype(tmp_path: Path, dtype: torch.dtype, zipped_form: bool) -> None:
    tensors = {"a.weight": noise(dtype, 5, 3), "a.bias": noise(dtype, 7), "count": noise(dtype)}
    checkpoint = open_pickle(save(tmp_path / "a.ckpt", tensors, zipped_form))
    assert list(checkpoint.tensors) == list(tensors)
    for key, tensor in tensors.items():
        assert checkpoint.tensors[key].shape == tensor.shape
        assert same_bits(checkpoint.tensor(key), tensor)


@ZIP_OR_LEGACY
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path: Path, protocol: int, zipped_form: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).half())
    tree = {"state_dict": network.state_dict(), "epoch": 3, "loss": 0.5, "done": None, "steps": [1, (2, 3)]}
    checkpoint = open_pickle(save(tmp_path / "a.ckpt", tree, zipped_form, protocol))
    assert checkpoint.tensors.keys() == network.state_dict().keys()
    for key, tensor in network.state_dict().items():
        assert same_bits(checkpoint.tensor(key), tensor)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_put_together_by_hand(tmp_path: Path, protocol: int) -> None:
    """The generator of hostile files begins with these, so they have to be good."""
    for content in (zipped(whole(protocol, model(protocol))), legacy(whole(protocol, model(protocol)))):
        (tmp_path / "a.ckpt").write_bytes(content)
        assert torch.equal(open_pickle(tmp_path / "a.ckpt").tensor("w"), torch.zeros(4))


@ZIP_OR_LEGACY
def test_views_and_shared_storage(tmp_path: Path, zipped_form: bool) -> None:
    base = noise(torch.float32, 6, 8)
    tensors = OrderedDict(
        whole=base, turned=base.T, part=base[2:5, 1:7:2], row=base[3], one=base[5, 7], parameter=nn.Parameter(base),
        nothing=base[:0], empty=torch.empty(0, 3), wide=base.reshape(2, 3, 8).permute(2, 0, 1),
    )  # fmt: skip
    checkpoint = open_pickle(save(tmp_path / "a.pt", tensors, zipped_form))
    for key, tensor in tensors.items():
        assert same_bits(checkpoint.tensor(key), tensor.detach())
        assert not checkpoint.tensor(key).requires_grad
    assert checkpoint.tensor("turned").stride() == base.T.stride()
    assert checkpoint.tensor("row").data_ptr() - checkpoint.tensor("whole").data_ptr() == 3 * 8 * 4


@given(data=st.data())
def test_any_view_of_a_storage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    base = torch.arange(data.draw(st.integers(1, 60)), dtype=torch.float32)
    view, shape = base, data.draw(st.lists(st.integers(1, 4), max_size=4))
    if torch.Size(shape).numel() <= base.numel():
        view = base[: torch.Size(shape).numel()].reshape(shape)
    order = data.draw(st.permutations(range(view.ndim)))
    view = view.permute(order)
    for axis in range(view.ndim):
        start, step = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
        view = view[(slice(None),) * axis + (slice(start, None, step),)]
    path = save(tmp_path_factory.mktemp("views") / "a.pt", {"a": view}, data.draw(st.booleans()))
    assert same_bits(open_pickle(path).tensor("a"), view)


def test_inner_dicts_are_joined_by_dots(tmp_path: Path) -> None:
    weights = {
        "inner": {"w": torch.ones(2)},
        "w": torch.zeros(1),
        "name": "x",
        3: {"w": torch.ones(1)},
        -1: {"w": torch.ones(1)},
    }
    weights["again"] = weights  # type: ignore[assignment]
    checkpoint = open_pickle(save(tmp_path / "a.pt", weights))
    assert list(checkpoint.tensors) == ["w", "inner.w", "3.w"]
    assert checkpoint.configs["pickle"] == {"name": "x"}
    pairs = {768: ({"w": torch.ones(1)}, {"w": torch.ones(2)}), "layers": [1, 2, 1], "rate": 0.5, "huge": 10**5000}
    hypernetwork = open_pickle(save(tmp_path / "c.pt", pairs))
    assert list(hypernetwork.tensors) == ["768.0.w", "768.1.w"]
    assert hypernetwork.configs["pickle"] == {"layers": [1, 2, 1], "rate": 0.5}
    wrapped = {"state_dict": {"w": torch.ones(1)}, "optimizer": {"w": torch.zeros(9)}}
    assert list(open_pickle(save(tmp_path / "b.pt", wrapped)).tensors) == ["w"]


@ZIP_OR_LEGACY
def test_what_a_training_loop_leaves_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped_form: bool
) -> None:
    """As in the first public Stable Diffusion files: a callback's class as key, NumPy numbers, scores."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    with monkeypatch.context() as patch:
        for end in (len("pytorch_lightning"), len("pytorch_lightning.callbacks"), len(name)):
            patch.setitem(sys.modules, name[:end], module := types.ModuleType(name[:end]))
        module.ModelCheckpoint = callback
        state = callback()
        state.monitor, state.score = "val/loss", torch.ones(1)
        tree = {
            "callbacks": {callback: {"best": np.float64(0.5), "current": torch.ones(1)}, "object": state},
            "state_dict": OrderedDict(w=torch.arange(6.0)),
            "lr_schedulers": [{"last_lr": [np.float32(1e-4)], "kind": np.dtype("int16"), "size": torch.Size([2])}],
            "global_step": np.int64(470_000),
        }
        path = save(tmp_path / "a.ckpt", tree, zipped_form)
    assert torch.equal(open_pickle(path).tensor("w"), torch.arange(6.0))
    assert name not in sys.modules


@ZIP_OR_LEGACY
def test_any_other_class_is_named(tmp_path: Path, zipped_form: bool) -> None:
    path = save(tmp_path / "a.ckpt", {"state_dict": {"w": torch.ones(1)}, "seen": Path("x")}, zipped_form)
    with pytest.raises(CheckpointError, match=r"a\.ckpt: .*'pathlib\.Posix|Windows|PurePath.*safetensors"):
        open_pickle(path)
    path = save(tmp_path / "b.ckpt", nn.Linear(2, 2), zipped_form)
    with pytest.raises(CheckpointError, match=r"'torch\.nn\.modules\.linear\.Linear'.*safetensors"):
        open_pickle(path)


def test_the_pickle_machine_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.ckpt", {"w": torch.ones(3)})
    for owner, attribute in ((pickle, "Unpickler"), (pickle, "loads"), (pickle, "load"), (torch, "load")):
        monkeypatch.setattr(owner, attribute, None)
    assert torch.equal(open_pickle(path).tensor("w"), torch.ones(3))


def test_a_tensor_may_be_changed_and_the_file_stays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", {"w": torch.ones(3)})
    before = path.read_bytes()
    open_pickle(path).tensor("w").zero_()
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to see resident memory")
@ZIP_OR_LEGACY
def test_opening_reads_no_tensor(tmp_path: Path, zipped_form: bool) -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    path = save(tmp_path / "a.ckpt", {"w": torch.zeros(25_000_000), "x": torch.ones(1)}, zipped_form)
    before = resident()
    checkpoint = open_pickle(path)
    tensor = checkpoint.tensor("w")
    assert resident() - before < 20
    assert tensor.sum() == 0
    assert resident() - before > 80  # so the first figure says something


def test_numbers_that_nobody_signed_for(tmp_path: Path) -> None:
    """Flipped, lost and inserted bytes: an error that names the file, or tensors within the file's bounds."""
    rng, opened, errors = Random(0), 0, []
    good = whole(2, model(2))
    path = tmp_path / "a.ckpt"
    for number in range(600):
        pickled = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(pickled))
            pickled[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        content = zipped(bytes(pickled)) if number % 2 else legacy(bytes(pickled))
        path.write_bytes(content)
        try:
            checkpoint = open_pickle(path)
        except CheckpointError as fault:
            errors.append(str(fault))
            continue
        opened += 1
        assert all(checkpoint.tensor(key).numel() <= 4 for key in checkpoint.tensors)
    assert 0 < opened < len(errors)
    assert all(str(path) in error for error in errors)
