"""`daguerre generate`: flags to a request, pictures to files."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..request import LIMITS, RequestError
from .exit import UNUSABLE, Failure
from .files import save_picture, slug
from .models import resolve

if TYPE_CHECKING:
    from ..generate.text_to_image import Picture


def generate(
    prompt: str,
    /,
    *,
    negative: str = "",
    steps: int | None = None,
    sampler: str | None = None,
    schedule: str | None = None,
    cfg: float | None = None,
    seed: int = -1,
    size: str | None = None,
    count: int = 1,
    clip_skip: int | None = None,
    guidance_rescale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    emphasis: str | None = None,
    model: str = "tintype",
    vae: Path | None = None,
    family: str | None = None,
    prediction: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    low_memory: Annotated[bool, Parameter(negative="")] = False,
    out: Path = Path("outputs"),
    grid: Annotated[bool, Parameter(negative="")] = False,
    preview: Annotated[bool, Parameter(negative="")] = False,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Draw pictures from a prompt.

    Parameters
    ----------
    prompt
        What to draw. (word:1.2) weighs a word more, [word] less; earlier words count more.
    negative
        What to keep out of the picture.
    steps
        More steps, finer work, more time.
    sampler
        Such as "Euler a", "DPM++ 2M Karras", "DDIM".
    schedule
        automatic, karras, exponential, sgm_uniform, ddim_uniform, turbo.
    cfg
        How closely to follow the prompt; 1 turns guidance off.
    seed
        The same seed draws the same picture; -1 takes a random one.
    size
        WIDTHxHEIGHT in pixels, such as 512x768.
    count
        How many pictures; their seeds follow one another.
    clip_skip
        2 reads the text encoder one layer before its last, 3 two layers, and so on.
    guidance_rescale
        0 to 1: takes back the over-contrast of strong guidance.
    guidance_interval
        The part of the steps that is guided, such as 0.1 0.8.
    emphasis
        How word weights are applied: original, no norm, ignore, none.
    model
        A checkpoint file, a diffusers folder, or a name that `daguerre models list` shows.
    vae
        A VAE file or folder to use in place of the model's own.
    family
        Overrides what the file looks like, for example turbo.
    prediction
        Overrides what the file looks like: epsilon or v.
    device
        cuda, mps, xpu or cpu; the best one by default.
    dtype
        float32, float16 or bfloat16; what the device is fast at by default.
    low_memory
        Keep only the part at work in memory; slower.
    out
        The folder for pictures, or the name of one picture.
    grid
        Also save all pictures in one.
    preview
        Keep preview.png beside the pictures up to date while drawing.
    json_lines
        Print one JSON object per picture.
    """
    given = {
        "prompt": prompt, "negative_prompt": negative, "steps": steps, "sampler": sampler, "schedule": schedule,
        "cfg_scale": cfg, "seed": seed, "count": count, "clip_skip": clip_skip, "guidance_rescale": guidance_rescale,
        "guidance_interval": guidance_interval, "emphasis": emphasis, **_size(size),
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None}
    _refuse_early(fields)
    from ..families.loading import load_model
    from ..generate.text_to_image import Picture, settled, text_to_image
    from .progress import Progress, Preview

    loaded = load_model(
        resolve(model), vae=vae, family=family, prediction=prediction, device=device, dtype=dtype, low_memory=low_memory
    )
    request = settled(replace(loaded.defaults, **fields))
    as_file = out.suffix.lower() == ".png"
    folder = out.parent if as_file else out
    shown = Preview(loaded, folder / "preview.png") if preview else None
    pictures: list[Picture] = []
    with Progress(request.steps, request.count, quiet=json_lines) as progress:
        for event in text_to_image(loaded, request):
            if not isinstance(event, Picture):
                progress.step(len(pictures), event.i)
                if shown:
                    shown.update(event)
                continue
            pictures.append(event)
            path = save_picture(event, out if as_file else folder / f"{event.record.seed}-{slug(prompt)}.png")
            progress.saved(path, event.seconds)
            if json_lines:
                print(json.dumps(_summary(path, event)), flush=True)
    if grid and len(pictures) > 1:
        from .files import save_grid

        path = save_grid(pictures, folder / f"grid-{slug(prompt)}.png")
        print(json.dumps({"grid": str(path)}) if json_lines else path)


def _size(size: str | None) -> dict[str, int]:
    if size is None:
        return {}
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RequestError(f"--size is {size!r}; write it as WIDTHxHEIGHT, such as 512x768")
    return {"width": int(width), "height": int(height)}


def _refuse_early(fields: dict[str, Any]) -> None:
    """Says what is wrong with a number before a model is loaded for it."""
    from ..request import TextToImage

    TextToImage(**fields)


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
