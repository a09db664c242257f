"""`daguerre travel` and `daguerre film`: pictures that move."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from cyclopts import Parameter
from PIL import Image

from ..files.durable import durable_new
from ..provenance import infotext, png
from ..request import RequestError, TextToImage
from .drawing import AS_TYPED, TextFlags, step_count
from .files import check_writable, folder_and_file, save_picture, slug
from .grid import folder_for, seeded
from .kinds import Switch, Texts

if TYPE_CHECKING:
    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Picture

Kind = Literal["webp", "gif", "png"]
HOLD = 1500  # milliseconds that a film's last frame stays


def travel(
    prompt: str,
    /,
    *,
    to: Texts = (),
    seeds: Annotated[str, Parameter(negative="")] = "",
    frames: int = 12,
    loop: Switch = False,
    fps: float = 12,
    kind: Annotated[Kind | None, Parameter(name="--format")] = None,
    flags: TextFlags = AS_TYPED,
    out: Path | None = None,
    resume: Switch = False,
) -> None:
    """Draw the way from one seed or prompt to the next, as frames and as an animation.

    Parameters
    ----------
    prompt
        What to draw at first.
    to
        The prompt to go to; may be given several times.
    seeds
        The seeds to go to, such as "5, 9" or "1-4".
    frames
        How many from one to the next.
    loop
        Go back to the beginning.
    fps
        Frames a second, at most 100.
    kind
        webp, gif, or png, which is APNG; by default as --out ends, or else webp.
    out
        The folder for the animation and, in cells/, each frame; by default a new one in outputs/. Or the name of the
        animation; the frames go to a folder called as it is.
    resume
        Go on in the folder of before; only what is missing is drawn.
    """
    from ..generate.explore.animation import animated
    from ..generate.explore.job import Job
    from ..generate.explore.travel import plan_travel
    from ..generate.explore.values import numbers
    from .explore import defaults_of, draw_all, spoken

    (_, file), milliseconds = _places(out or Path(), kind), _milliseconds(fps)
    folder = folder_for(file.with_suffix("") if file else out, "travel", prompt, resume=resume)
    fields = seeded(flags.fields(prompt=prompt), folder)
    base = Job(replace(defaults_of(flags.with_model), **fields), flags.setup())
    stops = [int(number) for number in numbers(seeds, whole=True)] if seeds else []
    jobs = spoken(plan_travel(base, seeds=stops, prompts=to, frames=frames, loop=loop), flags)
    titles = [f"frame {i + 1}" for i in range(len(jobs))]
    paths: dict[int, Path] = {}
    for done in draw_all(jobs, flags, folder / "cells", titles):
        paths[done.index] = done.path
    record, _ = png.read(paths[0])
    pictures = _read(paths[i] for i in range(len(jobs)))
    said = infotext.write(record) if record else ""
    file = file or folder / f"travel.{kind or 'webp'}"
    print(durable_new(file, animated(pictures, [milliseconds] * len(jobs), _kind(file), said)))


def film(
    prompt: str,
    /,
    *,
    fps: float = 8,
    kind: Annotated[Kind | None, Parameter(name="--format")] = None,
    quick: Switch = False,
    flags: TextFlags = AS_TYPED,
    out: Path = Path("outputs"),
) -> None:
    """Draw a picture and save how it came to be: what each step takes it for, as an animation.

    Parameters
    ----------
    prompt
        What to draw.
    fps
        Steps a second, at most 100.
    kind
        webp, gif, or png, which is APNG; by default as --out ends, or else webp.
    quick
        Decode the steps as previews are, in a small part of the time.
    out
        The folder for the animation and the picture, or the name of the animation.
    """
    from ..generate.drawing import settled
    from ..generate.explore.animation import animated
    from ..generate.explore.animation import film as filmed
    from ..generate.text_to_image import text_to_image
    from .explore import defaults_of
    from .progress import Progress

    (folder, file), milliseconds, files = _places(out, kind), _milliseconds(fps), flags.adapters.files()
    request = replace(defaults_of(flags.with_model), **flags.fields(prompt=prompt))
    frames: list[Image.Image] = []
    flags.language.check(settled(request))
    check_writable(folder, file)

    steered = flags.around(text_to_image)

    def task(model: "Model", asked: TextToImage) -> "Iterator[Step | Picture]":
        return flags.language.drawn(model, settled(asked), files, steered)

    with Progress(step_count(request), 1, quiet=False) as bar:
        for event in filmed(flags.with_model.load(), request, quick=quick, task=task):
            if isinstance(event, Image.Image):
                bar.step(0, len(frames))
                frames.append(event)
            else:
                picture: Picture = event
    name = f"{picture.record.seed}-{slug(prompt)}"
    print(save_picture(picture, folder / f"{name}.png"))
    durations = [milliseconds] * len(frames) + [HOLD]
    file = file or folder / f"film-{name}.{kind or 'webp'}"
    print(durable_new(file, animated([*frames, picture.image], durations, _kind(file), infotext.write(picture.record))))


def _read(paths: Iterable[Path]) -> Iterator[Image.Image]:
    for path in paths:
        with Image.open(path) as stored:
            yield stored.convert("RGB")


def _places(out: Path, kind: Kind | None) -> tuple[Path, Path | None]:
    """The folder for an animation, and its file where --out names one."""
    folder, file = folder_and_file(out, *(f".{one}" for one in get_args(Kind)))
    if file and kind and _kind(file) != kind:
        raise RequestError(f"--out {out}: its ending is not that of --format {kind}; leave --format out")
    return folder, file


def _kind(file: Path) -> Kind:
    kind: Kind = file.suffix.lower()[1:]  # type: ignore[assignment]
    return kind


def _milliseconds(fps: float) -> int:
    if not 0.1 <= fps <= 100:
        raise RequestError(f"fps is {fps:g}; it must be from 0.1 to 100")
    return round(1000 / fps)
