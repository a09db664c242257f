import pytest
import torch

from daguerre.runtime.device import DeviceError, available_devices, exact, pick_device, processor


@pytest.fixture
def machine(monkeypatch):
    """Pretends that a machine has these accelerators, two of each."""

    def pretend(*kinds):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
        monkeypatch.setattr(torch.xpu, "is_available", lambda: "xpu" in kinds)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)

    return pretend


@pytest.mark.parametrize(
    ("kinds", "best"), [(("cuda", "mps", "xpu"), "cuda"), (("mps", "xpu"), "mps"), (("xpu",), "xpu"), ((), "cpu")]
)
def test_the_best_device_is_picked(machine, kinds, best):
    machine(*kinds)
    assert pick_device() == torch.device(best)
    assert available_devices() == [*kinds, "cpu"]


def test_a_named_device_is_taken(machine):
    machine("cuda")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["xpu", "gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:1:2", "meta"])
def test_an_unknown_device_is_an_error_that_lists_the_known(machine, name):
    machine("cuda")
    with pytest.raises(DeviceError, match=f"'{name}'.*available: cuda, cpu"):
        pick_device(name)


def test_a_number_beyond_the_last_device_is_an_error(machine):
    machine("cuda")
    with pytest.raises(DeviceError, match="cuda has 2, the last is cuda:1"):
        pick_device("cuda:2")


def test_the_processor_is_named():
    assert torch.backends.cpu.get_cpu_capability() in processor(torch.device("cpu"))


def test_exact_mode_sets_threads_and_kernels_and_restores_them(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = torch.get_num_threads()
    with exact(before + 1) as threads:
        assert threads == torch.get_num_threads() == before + 1
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
    assert torch.get_num_threads() == before
    assert not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark
    with exact() as threads:
        assert threads == before


def test_drawings_that_end_in_another_order_than_they_began_leave_no_exact_mode(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    first, second = exact(), exact()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark
