"""A learning rate to begin with: train for some steps at rising rates, see where the loss falls fastest, undo it all.

The range test of arXiv:1506.01186. A diffusion loss depends far more on the noise levels of a batch than on so few
steps, so each batch's loss is compared with that of the untrained weights on the very same batch and noise.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..files.durable import durable_write
from ..request import RequestError
from .loop import Recipe, Stage, pieces
from .optimizers import build, set_rate

DIVERGED = 2.0  # times the loss at the start: here the search ends
MEMORY = 0.8  # of the running mean that says so
REACH = 0.05  # share of the curve on each side of a point that its smoothed value and its slope are made of


@dataclass(frozen=True)
class Found:
    """`rate`: where the loss falls fastest, None if it falls nowhere; `curve`: rates and smoothed losses."""

    rate: float | None
    curve: list[tuple[float, float]]


def find_rate(recipe: Recipe, stage: Stage, *, first: float = 1e-7, last: float = 1.0, steps: int = 100) -> Found:
    """The learning rate of all parameters of `recipe`, with the optimizer and the batch of `stage`.

    The rate rises exponentially from `first` to `last`, until the loss is not finite or twice what it was. Each step
    costs one more forward pass than in training. Weights are equal to the last bit afterwards, a second player makes
    no move, nothing is written. Raises RequestError for optimizers that find their rate themselves.
    """
    o = replace(stage.optimizer, learning_rate=first, rates={})
    if o.name == "prodigy":
        raise RequestError("optimizer.name 'prodigy' finds its rate itself; set optimizer.learning_rate = 1")
    if not (0 < first < last and steps >= 10):
        raise RequestError(
            f"rates from {first:g} to {last:g} in {steps} steps: they must rise from above 0 in 10 or more"
        )
    named = {name: p for name, p in recipe.trained.named_parameters() if p.requires_grad}
    device = next(iter(named.values())).device
    rates = [first * (last / first) ** (i / (steps - 1)) for i in range(steps)]
    losses: list[float] = []
    with _undone(recipe):
        before = [_loss(recipe, stage, step, device) for step in range(steps)]
        start = sum(before) / steps
        optimizer = build(o, named, device)
        excess = 0.0
        for step, rate in enumerate(rates):
            set_rate(optimizer, rate / first)
            loss = _loss(recipe, stage, step, device, backward=True)
            norm = torch.nn.utils.clip_grad_norm_(named.values(), stage.loop.clip or math.inf)
            excess = MEMORY * excess + (1 - MEMORY) * (loss - before[step])
            if not (math.isfinite(loss) and torch.isfinite(norm)) or excess > (DIVERGED - 1) * start:
                break
            losses.append(start + loss - before[step])
            optimizer.step()
            optimizer.zero_grad()
    smooth = _smoothed(losses)
    return Found(_steepest(rates, smooth), list(zip(rates, smooth, strict=False)))


def _loss(recipe: Recipe, stage: Stage, step: int, device: torch.device, *, backward: bool = False) -> float:
    """The loss of a whole batch, micro-batch by micro-batch as the run makes it; its gradient, if wanted."""
    c, total = stage.loop, 0.0
    for part in pieces(range(c.batch), c.accumulate):
        # Gradients in float16 want a scale that takes many steps to find; float32 has the same best rate.
        with torch.autocast(device.type, torch.bfloat16, enabled=c.precision == "bfloat16"):
            loss, _ = recipe.loss(step, part)
        share = len(part) / c.batch
        if backward:
            (loss * share).backward()  # type: ignore[no-untyped-call]
        total += loss.item() * share
    return total


@contextmanager
def _undone(recipe: Recipe) -> Iterator[None]:
    """Puts weights back afterwards, and what the recipe has noted of the steps that were none."""
    notes = dict(vars(recipe))
    weights = {name: value.clone() for name, value in recipe.trained.state_dict().items()}
    try:
        yield
    finally:
        vars(recipe).clear()
        vars(recipe).update(notes)
        recipe.trained.load_state_dict(weights)
        for p in recipe.trained.parameters():
            p.grad = None


def _window(i: int, count: int) -> range:
    """The points around the i-th, as many on each side as there are on both."""
    reach = min(max(1, round(REACH * count)), i, count - 1 - i)
    return range(i - reach, i + reach + 1)


def _smoothed(losses: list[float]) -> list[float]:
    windows = [_window(i, len(losses)) for i in range(len(losses))]
    return [sum(losses[j] for j in window) / len(window) for window in windows]


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    """Where the loss falls fastest over the logarithm of the rate, on the way to its lowest."""
    if not losses:
        return None
    lowest = losses.index(min(losses))
    y = torch.tensor(losses, dtype=torch.float64)
    slopes = {i: _slope(y[w.start : w.stop]) for i in range(lowest + 1) if len(w := _window(i, len(losses))) > 1}
    best = min(slopes, key=slopes.__getitem__, default=None)
    return rates[best] if best is not None and slopes[best] < 0 else None


def _slope(y: Tensor) -> float:
    """Of the straight line that fits best, per point."""
    x = torch.arange(len(y), dtype=y.dtype) - (len(y) - 1) / 2
    return float((x @ y) / (x @ x))


def draw(found: Found, path: Path) -> None:
    """The curve as a PNG, with the rate that was found. Raises RequestError if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError(f"the curve needs matplotlib: {error}; pip install 'daguerre[train]'") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
    axes.plot(*zip(*found.curve, strict=True) if found.curve else ([], []), color="#2563c9")
    if found.rate is not None:
        axes.axvline(found.rate, color="#48505c", linestyle="dashed", label=f"steepest: {found.rate:.2g}")
        axes.legend()
    axes.grid(color="#e6e8ec")
    durable_write(path, lambda target: figure.savefig(target, format="png"))
