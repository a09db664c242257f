"""How much memory a piece of work takes."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak(work: Callable[[], object]) -> int:
    """The most bytes of tensors that `work` held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log:
        work()
    events = [e for e in log.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
