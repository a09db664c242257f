"""`daguerre generate`: flags to a request, pictures to files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..request import TextToImage
from .files import save_grid, save_picture, slug
from .flags import BUILT_IN_MODEL, PLAIN, STANDARD, AdapterFlags, DrawingFlags, ModelFlags
from .language import WORDS_ALONE, LanguageFlags

if TYPE_CHECKING:
    from ..generate.drawing import Picture

Switch = Annotated[bool, Parameter(negative="")]


def generate(
    prompt: str,
    /,
    *,
    drawing: DrawingFlags = STANDARD,
    with_model: ModelFlags = BUILT_IN_MODEL,
    adapters: AdapterFlags = PLAIN,
    language: LanguageFlags = WORDS_ALONE,
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
        What to draw. (word:1.2) weighs a word more, [word] less; earlier words count more. [from:to:0.5] changes
        halfway, [a|b] at each step; "a AND b" draws both; {a|b} and __NAME__ choose; <lora:NAME:0.8> adds a LoRA.
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
    from ..generate.drawing import Picture, settled
    from ..generate.text_to_image import text_to_image
    from .progress import Preview, Progress

    files = adapters.files()
    fields = {"prompt": prompt, **drawing.given()}
    language.check(settled(TextToImage(**fields)))  # says what is wrong before a model is loaded for it
    plain = with_model.load()
    request = settled(replace(plain.defaults, **fields))
    as_file = out.suffix.lower() == ".png"
    folder = out.parent if as_file else out
    shown = Preview(plain, folder / "preview.png") if preview else None
    pictures: list[Picture] = []
    with Progress(request.steps, request.count, quiet=json_lines) as progress:
        for event in language.drawn(plain, request, files, text_to_image):
            if isinstance(event, Picture):
                event = _enlarged(event, upscale)
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


def _enlarged(picture: "Picture", scale: int | None) -> "Picture":
    """The picture, enlarged at will."""
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
