"""A run as one page that a person enjoys: RUN/report.html, with curves, samples, data, settings, results and commands.

It needs no network and no scripts, and shows pictures of the run's folder, which can so be moved or given away.
"""

import hashlib
import json
import logging
import shlex
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from ..files.durable import durable_text
from ..request import RequestError
from .config import Run
from .curves import DARK, Record, curve, draw_curves, read_log
from .markup import Markup, element, joined
from .recipe_file import filled
from .samples import OVER_TIME, Strip, over_time, place, spread, strips, subjects

log = logging.getLogger(__name__)
PAGE = "report.html"
CURVES, CURVES_DARK = "curves.png", "curves-dark.png"
NAMED = 200  # dropped pictures that are named
RECENT = 100  # log records that tell the present speed


def write_report(run: Path) -> Path:
    """Draws RUN/curves.png and RUN/samples-over-time.png and writes RUN/report.html; returns its path.

    Works from what the folder holds, at any time of a run. Raises OSError when it cannot be written.
    """
    records, settings = read_log(run / "log.jsonl"), _settings(run)
    finished = bool(records) and int(records[-1]["step"]) >= settings.loop.steps
    found = strips(run)
    over_time(run)
    parts = [
        _head(run, settings, records),
        _latest(run, found),
        _curves(run, records),
        _over_time(run, found),
        _nearest(run, found),
        _results(run, finished=finished),
        _commands(run, settings, finished=finished),
        element("div", _data(run), _changed(run), class_="columns"),
        element("footer", f"Written {time.strftime('%Y-%m-%d %H:%M:%S')} by daguerre.", class_="soft small"),
    ]
    template = Template(Path(__file__).with_name(PAGE).read_text(encoding="utf-8"))
    text = template.substitute(title=joined(f"{run.resolve().name}: training"), body="\n".join(filter(None, parts)))
    durable_text(run / PAGE, text)
    return run / PAGE


def _read(path: Path) -> dict[str, Any]:
    """A table from a TOML or JSON file; empty when there is none that can be read."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def _settings(run: Path) -> Run:
    """The run's settings; the defaults when its file is missing or of another kind."""
    try:
        return filled(Run, {**_read(run / "config.toml"), "run": str(run)}, "config.toml")
    except RequestError:
        return Run(recipe="full", run=run)


def _section(title: str, *inside: str) -> Markup:
    return element("section", element("h2", title), *inside)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    top = element("thead", element("tr", *(element("th", cell) for cell in head))) if head else Markup()
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows))
    return element("div", element("table", top, body), class_="scroll")


def _head(run: Path, settings: Run, records: Sequence[Record]) -> Markup:
    """Title, progress, and the figures that one looks for first."""
    step, steps = int(records[-1]["step"]) if records else 0, max(1, settings.loop.steps)
    seconds = [value for _, value in curve(records[-RECENT:], "seconds")]
    pace = sum(seconds) / len(seconds) if seconds else 0.0
    share = f"{100 * min(step, steps) / steps:.1f}"
    figures = [(f"{step:,} of {steps:,}", "steps")]
    if pace:
        left = (steps - step) * pace
        figures.append((f"about {duration(left)}", "to go at this speed") if left > 0 else ("finished", "state"))
        speed = f"{1 / pace:.2f} steps/s" if pace < 1 else f"{pace:.1f} s/step"
        figures.append((speed, f"{settings.loop.batch / pace:.1f} pictures per second"))
    if losses := [value for _, value in curve(records, "loss")][-RECENT:]:
        figures.append((f"{sum(losses) / len(losses):.4f}", f"loss, mean of {len(losses)} log lines"))
    kept = _read(run / "data.json").get("kept")
    if isinstance(kept, int):
        figures.append((f"{kept:,}", "pictures"))
    return element(
        "header",
        element("h1", run.resolve().name),
        element("p", f"Recipe “{settings.recipe}” on {Path(settings.base).name}, seed {settings.seed}", class_="soft"),
        element("div", element("div", style=f"width: {share}%"), class_="progress", title=f"{share} %"),
        element("div", *(element("div", element("b", a), element("span", b)) for a, b in figures), class_="figures"),
    )


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _url(run: Path, path: Path) -> str:
    """A file of the run's folder, as the page addresses it."""
    return quote(path.relative_to(run).as_posix())


def _cell(run: Path, strip: Strip, at: int, says: str) -> Markup:
    """One picture of a strip: the page shows the part of the file where it is."""
    share = f"{100 * at / max(1, len(strip.told) - 1):.4f}"
    shown = f"aspect-ratio: {strip.width} / {strip.height}; object-position: {share}% 0"
    source = _url(run, strip.path)
    picture = element("img", src=source, alt=says, title=says, style=shown, class_="cell", loading="lazy")
    return element("a", picture, href=source)


def _latest(run: Path, found: Sequence[Strip]) -> Markup:
    if not found:
        return Markup()
    last = found[-1]
    cells = [
        element("figure", _cell(run, last, i, prompt), element("figcaption", prompt or "(empty prompt)"))
        for i, (prompt, _) in enumerate(subjects(found))
    ]
    return _section(f"What it draws at step {last.step:,}", element("div", *cells, class_="latest"))


def _curves(run: Path, records: Sequence[Record]) -> Markup:
    try:
        drawn = draw_curves(records, run / CURVES) and draw_curves(records, run / CURVES_DARK, DARK)
    except ModuleNotFoundError as error:
        log.warning("a report without curves: %s", error)
        return Markup()
    if not drawn:
        return Markup()
    dark = element("source", srcset=CURVES_DARK, media="(prefers-color-scheme: dark)")
    picture = element("picture", dark, element("img", src=CURVES, alt="Curves of the training log"))
    told = "Pale: as logged. Strong: smoothed. Held-out losses: averaged weights, the same noise each time."
    return _section("Curves", picture, element("p", told, class_="soft small"))


def _over_time(run: Path, found: Sequence[Strip]) -> Markup:
    """A column per step, a row per prompt, always with the same noise."""
    if len(found) < 2:
        return Markup()
    shown = spread(found)
    head = [element("th"), *(element("th", f"{strip.step:,}", class_="small") for strip in shown)]
    rows = []
    for subject in subjects(found):
        cells = []
        for strip in shown:
            at = place(strip, subject)
            says = f"{subject[0]}, step {strip.step:,}"
            cells.append(element("td", Markup() if at is None else _cell(run, strip, at, says)))
        prompt, seed = subject
        label = element("th", element("span", prompt or "(empty prompt)"), f"seed {seed}", scope="row", title=prompt)
        rows.append(element("tr", label, *cells))
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="time")
    also = element("p", "As one picture: ", element("a", OVER_TIME, href=OVER_TIME), class_="soft small")
    return _section("Samples over time", element("div", table, class_="scroll"), also)


def _nearest(run: Path, found: Sequence[Strip]) -> Markup:
    """The last samples beside their nearest training pictures."""
    by_step = {strip.step: strip for strip in found}
    pairs = [(by_step[near.step], near) for near in strips(run, "nearest") if near.step in by_step]
    if not pairs:
        return Markup()
    drawn, near = pairs[-1]
    cells = []
    for i, (one, (prompt, _)) in enumerate(zip(near.told, subjects([drawn]), strict=False)):
        name, copied = str(one.get("name", "")), bool(one.get("copied"))
        badge = element("span", "looks copied" if copied else "no copy", class_="badge bad" if copied else "badge")
        told = element("figcaption", badge, " ", name, element("div", _nearness(one), class_="soft"))
        cells.append(element("figure", _cell(run, drawn, i, prompt), _cell(run, near, i, name), told, class_="pair"))
    count = sum(bool(one.get("copied")) for one in near.told)
    explained = (
        f"Left a sample of step {drawn.step:,}, right the training picture that is nearest to it, mirrored or not. "
        f"{count} of {len(near.told)} look copied: as near as a picture is to its compressed, tinted or mirrored copy, "
        "or nearer than 99 % of training pictures are to any other."
    )
    return _section(
        "Learned or memorized?", element("p", explained, class_="soft"), element("div", *cells, class_="pairs")
    )


def _nearness(told: Mapping[str, Any]) -> str:
    distance, share = told.get("distance"), told.get("percentile")
    text = f"distance {distance:.2f}" if isinstance(distance, float) else "distance unknown"
    if isinstance(share, int | float):
        text += f"; {100 * share:.0f} % of training pictures are nearer to another"
    return text


def _results(run: Path, *, finished: bool) -> Markup:
    """The files that the run made. They are read, for their sums, only once it is over."""
    folder = run / "output"
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if finished else []
    rows = [(_link(run, path), size(path), element("code", _sha256(path))) for path in files]
    return _section("Results", _table(("file", "size", "SHA-256"), rows)) if rows else Markup()


def _link(run: Path, path: Path) -> Markup:
    return element("a", path.relative_to(run).as_posix(), href=_url(run, path))


def size(path: Path) -> str:
    """How large a file is, in units of 1,000 bytes."""
    count = float(path.stat().st_size)
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commands(run: Path, settings: Run, *, finished: bool) -> Markup:
    """How to go on, watch and use what was learned."""

    def line(*words: str) -> Markup:
        return element("pre", shlex.join(words))

    here = str(run)
    parts: list[str] = []
    if finished:
        parts += [element("p", "Draw with it:"), line(*_drawing(run, settings))]
        o, longer = settings.optimizer, f"loop.steps={2 * settings.loop.steps}"
        # Other rates fall towards the last step, so that a longer run is another one.
        same = o.schedule in ("constant", "inverse_sqrt") and not o.decay
        words = ("daguerre", "train", "--resume", here, longer, *(() if same else ("--allow-changes",)))
        parts += [element("p", "Train longer:"), line(*words)]
    else:
        parts += [element("p", "Go on where it stopped, to the same bits as without a break:")]
        parts += [line("daguerre", "train", "--resume", here)]
    parts += [element("p", "Compare with other runs:"), line("tensorboard", "--logdir", str(run / "tensorboard"))]
    return _section("Commands", *parts)


def _drawing(run: Path, settings: Run) -> Iterator[str]:
    """The words of a command that draws the first sample prompt with the result."""
    found = strips(run)
    prompt = subjects(found)[0][0] if found else "a picture"
    output = run / "output"
    files = sorted(output.iterdir()) if output.is_dir() else []
    named = output / f"{settings.output.name or run.resolve().name}.safetensors"
    result = str(named if named in files or not files else files[0])
    yield from ("daguerre", "generate", prompt)
    embedded = settings.recipe == "inversion"
    if embedded or settings.recipe == "lora" or (settings.recipe == "dreambooth" and settings.dreambooth.adapter):
        if settings.base != "tintype":
            yield from ("--model", settings.base)
        yield from ("--embedding" if embedded else "--lora", result)
    else:
        yield from ("--model", result)


def _data(run: Path) -> Markup:
    """How many pictures were kept, and which were left out for which reason."""
    data = _read(run / "data.json")
    if not data:
        return Markup()
    listed = data.get("dropped")
    dropped = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    rows = [(key, f"{data[key]:,}") for key in ("kept", "captions") if isinstance(data.get(key), int)]
    rows += [("left out", f"{len(dropped):,}"), ("SHA-256", element("code", str(data.get("sha256", ""))))]
    inside = [_table((), rows)]
    if dropped:
        named = [(str(one.get("name", "")), str(one.get("reason", ""))) for one in dropped[:NAMED]]
        more = f"What was left out, and why{f': the first {NAMED}' if len(dropped) > NAMED else ''}"
        inside.append(element("details", element("summary", more), _table(("picture", "reason"), named)))
    return _section("Pictures", *inside)


def _changed(run: Path) -> Markup:
    """The settings that were set; the run's file holds no others."""
    rows = [(key, value) for key, value in _flat(_read(run / "config.toml")) if key != "run"]
    if not rows:
        return Markup()
    cells = [(element("code", key), element("code", value)) for key, value in rows]
    return _section("Settings that differ from the defaults", _table((), cells))


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
