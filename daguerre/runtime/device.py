"""Where modules run, and what the exactness of a result depends on there."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class DeviceError(ValueError):
    """A device that does not exist here; the message lists those that do."""


def available_devices() -> list[str]:
    """The kinds of device this machine has, best first; the last is always "cpu"."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
        "cpu": True,
    }
    return [name for name, is_present in present.items() if is_present]


def pick_device(name: str | None = None) -> torch.device:
    """The named device ("cpu", "cuda", "cuda:1" ...), or the best one of this machine.

    Raises DeviceError, with the devices there are, if there is no such device.
    """
    kinds = available_devices()
    if name is None:
        return torch.device(kinds[0])
    kind, colon, number = name.partition(":")
    if kind not in kinds or (colon and not number.isdecimal()):
        raise DeviceError(f"no device {name!r:.60} here; available: {', '.join(kinds)}")
    count = torch.cuda.device_count() if kind == "cuda" else torch.xpu.device_count() if kind == "xpu" else 1
    if len(number) > 3 or (number and int(number) >= count):
        raise DeviceError(f"no device {name!r:.60} here; {kind} has {count}, the last is {kind}:{count - 1}")
    return torch.device(name)


def processor(device: torch.device) -> str:
    """The chip behind `device`, as far as it decides which kernels run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@contextmanager
def exact(threads: int | None = None) -> Iterator[int]:
    """Runs the body so that equal inputs give equal bits; yields the CPU threads it has, `threads` if given.

    What equal bits still depend on belongs in the picture's record: the processor, the dtype, the torch
    version and the number of threads (sums are split by thread, and no library promises the same sum for
    another split).
    """
    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before[0])
        if before[1:] != (True, False):  # else whoever was exact before restores it, who may have ended by now
            _, cudnn.deterministic, cudnn.benchmark = before
