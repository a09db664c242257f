"""What all commands that draw share: flags for what comes out, and the way from a request to files."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..request import Hires, ImageToImage, TextToImage
from .files import save_grid, save_picture, slug
from .flags import AdapterFlags, ModelFlags, width_and_height
from .language import LanguageFlags

if TYPE_CHECKING:
    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Control, Picture

    Task = Callable[..., Iterator[Step | Picture]]  # (model, request, controls=...)

Switch = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """What comes out, and where.

    Parameters
    ----------
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

    out: Path = Path("outputs")
    upscale: Literal[2, 4] | None = None
    grid: Switch = False
    preview: Switch = False
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HiresFlags:
    """A second pass over the picture, enlarged; each of these but the first asks for one, too.

    Parameters
    ----------
    hires
        How many times as large, such as 2.
    hires_size
        WIDTHxHEIGHT in pixels, in place of that.
    hires_steps
        As many as in the first pass by default.
    hires_strength
        0 to 1: how far the second pass goes from the first.
    hires_upscaler
        Latent, "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)", "Latent
        (nearest-exact)", Lanczos, Nearest, built-in, or an upscaler's file.
    hires_sampler
        That of the first pass by default, as are the others.
    hires_schedule
        Noise levels.
    hires_prompt
        What to draw then.
    hires_negative
        What to keep out then.
    """

    hires: float | None = None
    hires_size: str | None = None
    hires_steps: int | None = None
    hires_strength: float | None = None
    hires_upscaler: str | None = None
    hires_sampler: str | None = None
    hires_schedule: str | None = None
    hires_prompt: str | None = None
    hires_negative: str | None = None

    def given(self) -> dict[str, Any]:
        """The field `hires` of a `TextToImage`, where a second pass is asked for."""
        values: dict[str, Any] = {
            "scale": self.hires,
            "steps": self.hires_steps,
            "strength": self.hires_strength,
            "upscaler": self.hires_upscaler,
            "sampler": self.hires_sampler,
            "schedule": self.hires_schedule,
            "prompt": self.hires_prompt,
            "negative_prompt": self.hires_negative,
        }
        if self.hires_size is not None:
            values |= width_and_height("--hires-size", self.hires_size)
        values = {name: value for name, value in values.items() if value is not None}
        return {"hires": Hires(**values)} if values else {}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RefinerFlags:
    """A second model for the last steps.

    Parameters
    ----------
    refiner
        A model in the latents of the first one, such as SDXL's refiner.
    switch_at
        The share of the steps after which it takes over.
    """

    refiner: str | None = None
    switch_at: float = 0.8

    def controls(self, first: ModelFlags) -> "list[Control]":
        """The refiner, on the first model's device, where there is one."""
        if self.refiner is None:
            return []
        from ..generate.refiner import Refiner

        flags = replace(first, model=self.refiner, vae=None, base=None, family=None, prediction=None)
        return [Refiner(flags.load(), self.switch_at)]


ALONE = RefinerFlags()


@dataclass(frozen=True, kw_only=True)
class Run:
    """By what a request is drawn, and what becomes of the pictures."""

    with_model: ModelFlags
    adapters: AdapterFlags
    language: LanguageFlags
    output: OutputFlags
    refiner: RefinerFlags = ALONE

    def draw(
        self,
        kind: type[TextToImage],
        given: Mapping[str, Any],
        task: "Task",
        length: "Callable[[TextToImage, Model], int] | None" = None,
    ) -> None:
        """Draws a request of a kind with the given fields, the model's own defaults for the others, and saves all.

        `length` tells the steps to one picture, where they are not those of the request.
        """
        from ..generate.drawing import Picture, settled
        from .progress import Preview, Progress

        files, output = self.adapters.files(), self.output
        asked = settled(kind(**given))  # says what is wrong before a model is loaded for it
        self.language.check(asked)
        if asked.hires:
            from ..generate.hires import second_pass

            settled(second_pass(asked, asked.hires))
        plain = self.with_model.load()
        if controls := self.refiner.controls(self.with_model):
            task = partial(task, controls=controls)
        request = settled(kind(**{**_defaults(plain, kind), **given}))
        as_file = output.out.suffix.lower() == ".png"
        folder, name = (output.out.parent if as_file else output.out), slug(request.prompt)
        shown = Preview(plain, folder / "preview.png") if output.preview else None
        pictures: list[Picture] = []
        done, steps = 0, length(request, plain) if length else step_count(request)
        with Progress(steps, request.count, quiet=output.json_lines) as progress:
            for event in self.language.drawn(plain, request, files, task):
                if isinstance(event, Picture):
                    event, done = _enlarged(event, output.upscale), 0
                    pictures.append(event)
                    path = save_picture(event, output.out if as_file else folder / f"{event.record.seed}-{name}.png")
                    progress.saved(path, event.seconds)
                    if output.json_lines:
                        print(json.dumps(_summary(path, event)), flush=True)
                else:
                    progress.step(len(pictures), done)
                    done += 1
                    if shown:
                        shown.update(event)
        if output.grid and len(pictures) > 1:
            path = save_grid(pictures, folder / f"grid-{name}.png")
            print(json.dumps({"grid": str(path)}) if output.json_lines else path)


def step_count(request: TextToImage) -> int:
    """How many steps a picture takes, in all passes."""
    if isinstance(request, ImageToImage) and not request.exact_steps:
        return int(min(request.strength, 0.999) * request.steps) + 1
    return request.steps + ((request.hires.steps or request.steps) if request.hires else 0)


def _defaults(model: "Model", kind: type[TextToImage]) -> dict[str, Any]:
    """The request fields that suit the model; pictures that are given have their own sizes."""
    sizes = {"width", "height"} if issubclass(kind, ImageToImage) else set()
    return {name: value for name, value in model.family.defaults.items() if name not in sizes}


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


AS_USUAL, ONE_PASS = OutputFlags(), HiresFlags()
