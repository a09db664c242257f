"""A run from its settings to its results: base, pictures, recipe, loop, report, files. Killed anywhere, it goes on."""

import json
import logging
import math
import platform
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..data.cache import Cache
from ..data.config import Source
from ..data.manifest import Manifest, gather
from ..families.model import Model
from ..files.built_in import BUILT_IN
from ..files.durable import durable_text, durable_write
from ..generate.drawing import Picture
from ..generate.text_to_image import text_to_image
from ..request import RequestError
from . import checkpoint, finder, loop
from .bases import base_model
from .config import Run
from .drawing import Drawing
from .finder import Found
from .memory import checkpointed
from .outputs import wanted_layouts, write_results
from .processes import here, in_turn, joined
from .recipe_file import changed, filled, plain, read, text_of
from .recipes import RECIPES, Job, Work, captioned, worded
from .tensorboard import Events

log = logging.getLogger(__name__)
T = TypeVar("T")
CONFIG, DATA, OUTPUT, CLASS = "config.toml", "data.json", "output", "class-pictures"
# Settings that may change when a run is resumed: they decide what it shows and writes, not what it learns. Pictures
# and base are told by their contents, wherever they lie.
FREE = "run", "base", "output", "samples", "device", "loop", "optimizer"
FREE_OF_DATA = "cache", "keep_cache", "sources"


def train(
    run: Run, *, stop: float = math.inf, allow_changes: bool = False, patience: float = 3600.0
) -> Iterator[dict[str, Any]]:
    """Carries out a run, or what is left of it, yielding records.

    While it prepares: `doing`, `done`, `of`. Then the loop's, one per step, and `files` when results are written.
    `stop` is a time of `time.time`. Raises RequestError for settings that cannot be carried out, the loop's errors,
    and OSError for a disk that stays full longer than `patience` seconds.
    """
    run.run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        device = stack.enter_context(joined(run.device))
        if here().first:
            stack.enter_context(loop.locked(run.run))
        model = base_model(replace(run, device=str(device)))
        with in_turn():
            work, data = yield from _set_up(run, model, stack)
        stage = loop.Stage(
            loop=run.loop,
            optimizer=run.optimizer,
            identity=identity(run, model, data),
            allow_changes=allow_changes,
            patience=patience,
        )
        if not here().first:
            yield from loop.train(work.recipe, stage, run.run, stop)
            return
        begun = _last_step(run.run) > 0
        if not begun:
            _note(run, data)
        for record in _looped(run, work, stage, stop):
            if begun:  # only now: the loop refuses changes that were not allowed
                _note(run, data)
                begun = False
            yield record
        step = _last_step(run.run)
        if step >= run.loop.steps:
            if run.loop.shard and here().world > 1:  # what this process holds is a part
                model = base_model(replace(run, device=str(device)))
                work = _prepared(run, model, data, stack)
            yield {"step": step, "files": _finished(run, work, model, data)}


def resume(folder: Path, **options: Any) -> Iterator[dict[str, Any]]:
    """Goes on with the run in a folder; it needs nothing else. The options are those of `train`."""
    return train(settings_of(folder), **options)


def find_rate(run: Run) -> tuple[Found, Path]:
    """A learning rate for the run's own recipe and pictures, and a plot of how it was found; trains nothing."""
    run.run.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(loop.locked(run.run))
        model = base_model(run)
        work, _ = _exhausted(_set_up(run, model, stack))
        found = finder.find_rate(work.recipe, loop.Stage(loop=run.loop, optimizer=run.optimizer))
    path = run.run / "learning-rate.png"
    finder.draw(found, path)
    return found, path


def _set_up(run: Run, model: Model, stack: ExitStack) -> Generator[dict[str, Any], None, tuple[Work, Manifest]]:
    """All that comes before the first step; returns the recipe with its pictures."""
    if run.recipe == "dreambooth" and run.dreambooth.class_prompt:
        yield from class_pictures(run, model)
    data = yield from _gathered(run)
    work = _prepared(run, model, data, stack)
    yield from _told("latents", work.batches.prepare())
    return work, data


def _exhausted(steps: Generator[Any, None, T]) -> T:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def settings_of(folder: Path) -> Run:
    """The settings that a run was begun with; raises RequestError for a folder without a run."""
    path = folder / CONFIG
    if not path.is_file():
        raise RequestError(f"{folder} holds no run: there is no {CONFIG} in it")
    return replace(filled(Run, read(path), str(path)), run=folder)


def identity(run: Run, model: Model, data: Manifest) -> dict[str, Any]:
    """All that decides a run's weights, by name: settings, base, pictures, code and machine."""
    values = {k: v for k, v in plain(run).items() if k not in FREE}
    tables = {k: values.pop(k) for k in list(values) if isinstance(values[k], dict)}
    tables["data"] = {k: v for k, v in tables["data"].items() if k not in FREE_OF_DATA}
    return {
        **values,
        **{f"{table}.{k}": v for table, settings in tables.items() for k, v in settings.items()},
        **loop.deciding(run.loop, run.optimizer),
        "base": model.sha256,
        "pictures": data.sha256,
        "daguerre": version("daguerre"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": here().world,
        "device": model.device.type,
        "machine": platform.machine(),
    }


def with_paths(run: Run, change: Callable[[Path], Path]) -> Run:
    """The run with all paths of files and folders changed."""
    sources = tuple(
        replace(s, path=change(s.path), masks=None if s.masks is None else change(s.masks)) for s in run.data.sources
    )
    cache = None if run.data.cache is None else change(run.data.cache)
    base = run.base if run.base == BUILT_IN else str(change(Path(run.base)))
    return replace(run, run=change(run.run), base=base, data=replace(run.data, sources=sources, cache=cache))


def class_pictures(run: Run, model: Model) -> Iterator[dict[str, Any]]:
    """DreamBooth's pictures of the class, drawn by the base itself; those that are there stay."""
    c, folder = run.dreambooth, run.run / CLASS
    folder.mkdir(exist_ok=True)
    size: dict[str, Any] = {"width": run.data.size, "height": run.data.size}
    for i in range(c.class_pictures):
        path = folder / f"{i:05d}.png"
        if not path.exists():
            yield {"doing": "pictures of the class", "done": i, "of": c.class_pictures}
            request = replace(model.defaults, prompt=c.class_prompt, seed=run.seed + i, **size)
            for made in text_to_image(model, request):
                if isinstance(made, Picture):
                    image = made.image
                    durable_write(path, lambda target, image=image: image.save(target, "PNG"))  # type: ignore[misc]


def _gathered(run: Run) -> Generator[dict[str, Any], None, Manifest]:
    """Reads and checks the pictures; returns their manifest."""
    data = replace(captioned(run), cache=_cache_folder(run))
    if run.recipe == "dreambooth" and run.dreambooth.class_prompt:
        instances = len(gather(data).entries)
        balance = instances * min((s.repeats for s in data.sources), default=1.0) / run.dreambooth.class_pictures
        prior = Source(
            path=run.run / CLASS,
            caption=run.dreambooth.class_prompt,
            repeats=balance,
            weight=run.dreambooth.prior_weight,
        )
        data = replace(data, sources=(*data.sources, prior))
    yield {"doing": "checking pictures", "done": 0, "of": 0}
    others = (run.edit.before,) if run.recipe == "edit" else ()
    wanted = not (run.recipe == "inversion" and run.inversion.templates)
    manifest = gather(data, captions=wanted, others=others)
    for name, reason in manifest.dropped:
        log.warning("%s is left out: %s", name, reason)
    return replace(manifest, entries=tuple(worded(run, manifest.entries)))


def _cache_folder(run: Run) -> Path:
    return run.data.cache or run.run / "cache"


def _prepared(run: Run, model: Model, manifest: Manifest, stack: ExitStack) -> Work:
    entries, held = manifest.held_out(run.data.held_out)
    key = f"{model.sha256} {model.vae_sha256} {run.data.background} {run.data.crop} {run.clip_skip}"
    cache = Cache(_cache_folder(run), key) if run.data.keep_cache else None
    seen = replace(run, data=captioned(run))
    drawing = Drawing(run, entries)
    job = Job(run=seen, model=model, entries=entries, held=held, cache=cache, draw=drawing, stack=stack)
    work = RECIPES[run.recipe](job)
    wanted_layouts(work.result, run.output)  # an unknown one is told now and not when all is trained
    if run.loop.checkpointing:
        stack.enter_context(checkpointed(work.model.unet))
    if run.loop.compile:
        work.model.unet.compile()
    return work


def _told(doing: str, progress: Iterator[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for done, count in progress:
        yield {"doing": doing, "done": done, "of": count}


def _note(run: Run, data: Manifest) -> None:
    """Writes down what the run is, so that it can be resumed without its recipe, and from anywhere."""
    _write_text(run.run / CONFIG, text_of(changed(with_paths(run, Path.absolute))))
    _write_text(run.run / DATA, json.dumps(data.summary(), indent=1))


def _looped(run: Run, work: Work, stage: loop.Stage, stop: float) -> Iterator[dict[str, Any]]:
    """The loop's records; curves and pictures go to TensorBoard and into the report on the way."""
    with Events(run.run, _last_step(run.run)) as events:
        for record in loop.train(work.recipe, stage, run.run, stop, lock=False):
            step = record["step"]
            if step % run.loop.log_every == 0 or "val" in record:
                events.add(step, record)
            if step % run.loop.sample_every == 0:
                strip = run.run / "samples" / f"step-{step:08d}.png"
                if strip.exists():
                    events.add_picture(step, "samples", strip)
                if step < run.loop.steps:
                    _report(run)
            yield record


def _report(run: Run) -> None:
    """Writes the report; a run does without it if it has to."""
    from .report import write_report

    try:
        write_report(run.run)
    except (OSError, ValueError) as error:
        log.warning("no report: %s", error)


def _finished(run: Run, work: Work, model: Model, data: Manifest) -> list[str]:
    """Writes the results of the averaged weights; returns their paths."""
    found = checkpoint.newest(run.run)
    assert found is not None
    work.recipe.trained.load_state_dict(found[1]["averaged"])
    metadata = {
        "recipe": run.recipe,
        "base": model.name,
        "base_sha256": model.sha256,
        "data_sha256": data.sha256,
        "pictures": len(data.entries),
        "steps": run.loop.steps,
        "date": time.strftime("%Y-%m-%d"),
        "software": f"daguerre {version('daguerre')}",
        "config": plain(with_paths(run, lambda path: Path(path.name))),  # a home folder is nobody's business
        "exact": found[0].get("exact", True),
    }
    paths = write_results(work.result, run.output, run.run / OUTPUT, run.run.resolve().name, metadata)
    _report(run)
    return [str(path) for path in paths]


def _last_step(run: Path) -> int:
    """The step of the newest checkpoint; 0 before the first."""
    return max((int(folder.name[5:]) for folder in run.glob("step-*")), default=0)


def _write_text(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        durable_text(path, text)
