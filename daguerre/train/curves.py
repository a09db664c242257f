"""A run's log, read leniently, and drawn: loss, held-out loss, learning rate, gradient norm, speed."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.durable import durable_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 1500  # of a curve at most
KNOWN = (
    "step",
    "loss",
    "lr",
    "norm",
    "seconds",
    "val",
    "time",
    "batch",
)  # other numbers of the log get panels of their own
MORE = 6  # such panels at most
Record = Mapping[str, Any]
Curve = list[tuple[int, float]]  # steps and values


@dataclass(frozen=True)
class Inks:
    paper: str
    text: str
    grid: str
    line: str
    pale: str
    levels: tuple[float, float]  # part of the color map "plasma" for noise levels, low to high


LIGHT = Inks("#ffffff", "#48505c", "#e6e8ec", "#2563c9", "#b4cbf2", (0.0, 0.8))
DARK = Inks("#1b1e24", "#b4bbc6", "#31363f", "#7fb0ff", "#35496d", (0.25, 0.95))


def read_log(path: Path) -> list[Record]:
    """The records in the order of steps; a later one of the same step adds to it, torn lines are left out."""
    found: dict[int, dict[str, Any]] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
            found.setdefault(int(record["step"]), {}).update(record)
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    return [found[step] for step in sorted(found)]


def curve(records: Sequence[Record], name: str) -> Curve:
    """The finite values of this name, thinned to at most POINTS."""
    return thinned(
        [(int(record["step"]), value) for record in records if (value := number(record.get(name))) is not None]
    )


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def thinned(points: Curve) -> Curve:
    """Evenly chosen points and the last, at most POINTS."""
    stride = -(-len(points) // (POINTS - 1))
    return points if len(points) <= POINTS else [*points[:-1:stride], points[-1]]


def held_out(records: Sequence[Record]) -> dict[float, Curve]:
    """Held-out loss by noise level, from low to high."""
    curves: dict[float, Curve] = {}
    for record in records:
        table = record.get("val")
        for level, value in table.items() if isinstance(table, Mapping) else ():
            sigma, loss = number(_float(level)), number(value)
            if sigma is not None and loss is not None:
                curves.setdefault(sigma, []).append((int(record["step"]), loss))
    return {sigma: thinned(curves[sigma]) for sigma in sorted(curves)}


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def smoothed(points: Curve) -> Curve:
    """A running mean that forgets within about a thirtieth of the curve, without a bias to its first value."""
    decay = 1 - 1 / max(1.0, len(points) / 30)
    total = weight = 0.0
    out = []
    for step, value in points:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        out.append((step, total / weight))
    return out


def draw_curves(records: Sequence[Record], path: Path, inks: Inks = LIGHT) -> bool:
    """Draws what the log has as a PNG; False, and no file, when it has nothing to draw yet.

    Raises ModuleNotFoundError that names the extra when matplotlib is missing.
    """
    panels = list(_panels(records, inks))
    if not panels:
        return False
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing curves needs matplotlib: pip install 'daguerre[train]'") from error
    columns = min(2, len(panels))
    rows = 1 if columns == 1 else -(-(len(panels) + 1) // 2) if len(panels) % 2 else len(panels) // 2
    figure = Figure(figsize=(11, 2.9 * rows), dpi=130, facecolor=inks.paper, layout="constrained")
    grid = figure.add_gridspec(rows, columns, hspace=0.08, wspace=0.04)
    wide = len(panels) % 2 == 1  # the first panel, over both columns
    for i, (title, draw) in enumerate(panels):
        at = i + wide * (i > 0)
        axes = figure.add_subplot(grid[0, :] if wide and i == 0 else grid[at // columns, at % columns])
        _dress(axes, title, inks)
        draw(axes)
    durable_write(path, lambda target: figure.savefig(target, format="png", facecolor=inks.paper))
    return True


def _panels(records: Sequence[Record], inks: Inks) -> Iterator[tuple[str, "Callable[[Axes], None]"]]:
    """Title and drawing of each panel that has something to show."""

    def plain(points: Curve, *, smooth: bool = True) -> "Callable[[Axes], None]":
        return lambda axes: _plot(axes, points, inks, smooth=smooth)

    loss, levels = curve(records, "loss"), held_out(records)
    if loss:
        yield "training loss", plain(loss)
    if levels:
        yield "held-out loss by noise level", lambda axes: _plot_levels(axes, levels, inks)
    if rate := curve(records, "lr"):
        yield "learning rate", plain(rate, smooth=False)
    if norm := curve(records, "norm"):
        yield "gradient norm", plain(norm)
    if speed := [(step, 1 / seconds) for step, seconds in curve(records, "seconds") if seconds > 0]:
        yield "steps per second", plain(speed)
    others = [name for name in dict.fromkeys(key for record in records for key in record) if name not in KNOWN]
    drawn = [(name, points) for name in others if (points := curve(records, name))]
    for name, points in drawn[:MORE]:
        yield name.replace("$", r"\$"), plain(points)


def _plot(axes: "Axes", points: Curve, inks: Inks, *, smooth: bool) -> None:
    steps, values = zip(*points, strict=True)
    if smooth and len(points) > 30:
        axes.plot(steps, values, color=inks.pale, linewidth=0.7, rasterized=True)
        axes.plot(*zip(*smoothed(points), strict=True), color=inks.line, linewidth=1.8)
        ordered = sorted(values)
        low, high = ordered[len(ordered) // 200], ordered[-1 - len(ordered) // 200]
        margin = 0.06 * (high - low) or abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)  # a few wild steps do not flatten the rest
    else:
        axes.plot(steps, values, color=inks.line, linewidth=1.8, marker="o" if len(points) < 20 else "", markersize=3)


def _plot_levels(axes: "Axes", levels: Mapping[float, Curve], inks: Inks) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    first, last = inks.levels
    for i, (sigma, points) in enumerate(levels.items()):
        color = colormaps["plasma"](first + (last - first) * i / max(1, len(levels) - 1))
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) < 20 else ""
        axes.plot(steps, values, color=color, linewidth=1.6, marker=marker, markersize=3, label=f"σ {sigma:g}")
    if all(value > 0 for points in levels.values() for _, value in points):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, labelcolor=inks.text)


def _dress(axes: "Axes", title: str, inks: Inks) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=inks.text)
    axes.set_facecolor(inks.paper)
    axes.grid(color=inks.grid, linewidth=0.8)
    axes.tick_params(colors=inks.text, labelsize=8, length=0)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    axes.yaxis.offsetText.set(color=inks.text, size=8)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.01)
