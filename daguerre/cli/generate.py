"""`daguerre generate`: flags to a request, pictures to files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..request import TextToImage
from .files import save_grid, save_picture, slug
from .flags import BUILT_IN_MODEL, PLAIN, STANDARD, AdapterFlags, DrawingFlags, ModelFlags

if TYPE_CHECKING:
    from ..generate.drawing import Picture
    from ..provenance.record import UsedAdapter

Switch = Annotated[bool, Parameter(negative="")]


def generate(
    prompt: str,
    /,
    *,
    drawing: DrawingFlags = STANDARD,
    with_model: ModelFlags = BUILT_IN_MODEL,
    adapters: AdapterFlags = PLAIN,
    out: Path = Path("outputs"),
    upscale: Literal[2, 4] | None = None,
    grid: Switch = False,
    preview: Switch = False,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Draw pictures from a prompt.

    Parameters
    ----------
    prompt
        What to draw. (word:1.2) weighs a word more, [word] less; earlier words count more.
    out
        The folder for pictures, or the name of one picture.
    upscale
        Enlarge each picture 2 or 4 times by the built-in upscaler, which knows drawings.
    grid
        Also save all pictures in one.
    preview
        Keep preview.png beside the pictures up to date while drawing.
    json_lines
        Print one JSON object per picture.
    """
    from ..adapters.adapted import adapted
    from ..generate.drawing import Picture, settled
    from ..generate.text_to_image import text_to_image
    from .progress import Preview, Progress

    files = adapters.files()
    fields = {"prompt": prompt, **drawing.given()}
    settled(TextToImage(**fields))  # says what is wrong before a model is loaded for it
    plain = with_model.load()
    request = settled(replace(plain.defaults, **fields))
    as_file = out.suffix.lower() == ".png"
    folder = out.parent if as_file else out
    shown = Preview(plain, folder / "preview.png") if preview else None
    pictures: list[Picture] = []
    with adapted(plain, files) as (model, used), Progress(request.steps, request.count, quiet=json_lines) as progress:
        for event in text_to_image(model, request):
            if isinstance(event, Picture):
                event = _finished(event, used, upscale)
                pictures.append(event)
                path = save_picture(event, out if as_file else folder / f"{event.record.seed}-{slug(prompt)}.png")
                progress.saved(path, event.seconds)
                if json_lines:
                    print(json.dumps(_summary(path, event)), flush=True)
            else:
                progress.step(len(pictures), event.i)
                if shown:
                    shown.update(event)
    if grid and len(pictures) > 1:
        path = save_grid(pictures, folder / f"grid-{slug(prompt)}.png")
        print(json.dumps({"grid": str(path)}) if json_lines else path)


def _finished(picture: "Picture", used: "tuple[UsedAdapter, ...]", scale: int | None) -> "Picture":
    """The picture, enlarged at will, with all that made it in its record."""
    picture = replace(picture, record=replace(picture.record, adapters=used))
    if scale is None:
        return picture
    from ..generate.upscale import load_upscaler, upscaled

    return upscaled(picture, scale, load_upscaler())


def _summary(path: Path, picture: "Picture") -> dict[str, Any]:
    record = picture.record
    return {
        "path": str(path),
        "seed": record.seed,
        "pixel_sha256": record.pixel_sha256,
        "seconds": round(picture.seconds, 3),
        "model": record.model,
        "sampler": record.sampler,
        "schedule": record.schedule,
    }
