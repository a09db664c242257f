"""`daguerre travel` and `daguerre film`: pictures that move."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from PIL import Image

from ..files.durable import durable_new
from ..provenance import infotext, png
from ..request import RequestError, TextToImage
from .drawing import STANDARD_MEANS, FromText, step_count
from .files import save_picture, slug
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
    kind: Annotated[Kind, Parameter(name="--format")] = "webp",
    means: FromText = STANDARD_MEANS,
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
        webp, gif, or png, which is APNG.
    out
        The folder for the animation and, in cells/, each frame; by default a new one in outputs/.
    resume
        Go on in the folder of before; only what is missing is drawn.
    """
    from ..generate.explore.animation import animated
    from ..generate.explore.job import Job
    from ..generate.explore.travel import plan_travel
    from ..generate.explore.values import numbers
    from .explore import defaults_of, draw_all, spoken

    milliseconds, folder = _milliseconds(fps), folder_for(out, "travel", prompt, resume=resume)
    fields = seeded(means.fields(prompt=prompt), folder)
    base = Job(replace(defaults_of(means.with_model), **fields), means.setup())
    stops = [int(number) for number in numbers(seeds, whole=True)] if seeds else []
    jobs = spoken(plan_travel(base, seeds=stops, prompts=to, frames=frames, loop=loop), means)
    titles = [f"frame {i + 1}" for i in range(len(jobs))]
    paths: dict[int, Path] = {}
    for done in draw_all(jobs, means, folder / "cells", titles):
        paths[done.index] = done.path
    record, _ = png.read(paths[0])
    pictures = (Image.open(paths[i]).convert("RGB") for i in range(len(jobs)))
    said = infotext.write(record) if record else ""
    data = animated(pictures, [milliseconds] * len(jobs), kind, said)
    print(durable_new(folder / f"travel.{kind}", data))


def film(
    prompt: str,
    /,
    *,
    fps: float = 8,
    kind: Annotated[Kind, Parameter(name="--format")] = "webp",
    quick: Switch = False,
    means: FromText = STANDARD_MEANS,
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
        webp, gif, or png, which is APNG.
    quick
        Decode the steps as previews are, in a small part of the time.
    out
        The folder for the animation and the picture.
    """
    from ..generate.drawing import settled
    from ..generate.explore.animation import animated
    from ..generate.explore.animation import film as filmed
    from ..generate.text_to_image import text_to_image
    from .explore import defaults_of
    from .progress import Progress

    milliseconds, files = _milliseconds(fps), means.adapters.files()
    request = replace(defaults_of(means.with_model), **means.fields(prompt=prompt))
    frames: list[Image.Image] = []
    means.language.check(settled(request))

    steered = means.around(text_to_image)

    def task(model: "Model", asked: TextToImage) -> "Iterator[Step | Picture]":
        return means.language.drawn(model, settled(asked), files, steered)

    with Progress(step_count(request), 1, quiet=False) as bar:
        for event in filmed(means.with_model.load(), request, quick=quick, task=task):
            if isinstance(event, Image.Image):
                bar.step(0, len(frames))
                frames.append(event)
            else:
                picture: Picture = event
    name = f"{picture.record.seed}-{slug(prompt)}"
    print(save_picture(picture, out / f"{name}.png"))
    durations = [milliseconds] * len(frames) + [HOLD]
    data = animated([*frames, picture.image], durations, kind, infotext.write(picture.record))
    print(durable_new(out / f"film-{name}.{kind}", data))


def _milliseconds(fps: float) -> int:
    if not 0.1 <= fps <= 100:
        raise RequestError(f"fps is {fps:g}; it must be from 0.1 to 100")
    return round(1000 / fps)
