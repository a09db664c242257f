import pytest
import torch
from torch import nn

from daguerre.runtime.offload import free, resident

from .memory import peak

CPU = torch.device("cpu")


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4))
        self.scale = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("table", torch.arange(4.0), persistent=False)


def test_a_part_that_stays_is_not_touched():
    part = Part()
    before = part.state_dict()
    with resident(part, CPU) as used:
        assert used is part
    assert all(part.state_dict()[k].data_ptr() == v.data_ptr() for k, v in before.items())


def test_a_part_that_leaves_is_freed_and_comes_back_the_same():
    part = Part()
    saved = {k: v.clone() for k, v in part.state_dict().items()}
    with resident(part, CPU, leave=True):
        assert torch.equal(part.scale, saved["scale"])
    assert all(p.is_meta for p in part.parameters())
    assert torch.equal(part.table, torch.arange(4.0))
    with resident(part, CPU, reload=lambda m: m.load_state_dict(saved, assign=True)):
        assert all(torch.equal(v, saved[k]) for k, v in part.state_dict().items())
        assert not part.scale.requires_grad


def test_a_part_is_freed_also_when_its_use_fails():
    part = Part()
    with pytest.raises(KeyError), resident(part, CPU, leave=True):
        raise KeyError
    assert part.scale.is_meta


def test_a_freed_part_without_a_source_is_a_clear_error():
    part = Part()
    free(part)
    with pytest.raises(RuntimeError, match="the Part was freed to save memory; load the model again"):
        resident(part, CPU).__enter__()


def test_an_accelerator_is_left_for_main_memory(monkeypatch):
    """With an accelerator's calls recorded, because there is none where tests run."""
    part, calls = Part(), []
    monkeypatch.setattr(nn.Module, "to", lambda self, device: calls.append(str(device)) or self)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    with resident(part, torch.device("cuda"), leave=True):
        calls.append("used")
    assert calls == ["cuda", "used", "cpu", "emptied"]
    assert not part.scale.is_meta


def test_the_measured_peak_is_one_part_instead_of_all():
    def use(leave: bool) -> None:
        parts = [nn.Linear(512, 512, bias=False, device="meta") for _ in range(4)]
        for part in parts:
            with resident(part, CPU, leave=leave, reload=fill):
                part(torch.zeros(1, 512))

    def fill(part: nn.Linear) -> None:
        part.load_state_dict({"weight": torch.ones(512, 512)}, assign=True)

    size = 4 * 512 * 512
    assert peak(lambda: use(leave=False)) > 4 * size
    assert peak(lambda: use(leave=True)) < 1.1 * size
