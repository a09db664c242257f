"""What all commands that draw share: their flags, and the way from a request to files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from ..request import ImageToImage, TextToImage
from .files import check_writable, folder_and_file, save_grid, save_picture, slug
from .flags import BUILT_IN_MODEL, PLAIN, STANDARD, AdapterFlags, DrawingFlags, ModelFlags
from .kinds import OUTPUT, Json, Switch
from .language import WORDS_ALONE, LanguageFlags
from .passes import ALONE, ONE_PASS, HiresFlags, RefinerFlags
from .steering import UNSTEERED, SteeringFlags

if TYPE_CHECKING:
    from ..families.model import Model
    from ..generate.drawing import Picture, Task
    from ..generate.explore.job import Setup


@Parameter(name="*", group=OUTPUT)
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
    json_lines: Json = False


AS_USUAL = OutputFlags()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SharedFlags:
    """What every command that draws takes beside its prompt."""

    drawing: DrawingFlags = STANDARD
    with_model: ModelFlags = BUILT_IN_MODEL
    adapters: AdapterFlags = PLAIN
    language: LanguageFlags = WORDS_ALONE
    steering: SteeringFlags = UNSTEERED

    def fields(self, **own: Any) -> dict[str, Any]:
        """The fields of a request: a command's own, and those that were given by flags."""
        return own | self.drawing.given()

    def around(self, task: "Task") -> "Task":
        """The task with all that steers it. Raises before there is a model where a file is missing."""
        return self.steering.around(task)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TextFlags(SharedFlags):
    """What every command takes that draws from a prompt alone: a second pass and a second model, too."""

    hires: HiresFlags = ONE_PASS
    refiner: RefinerFlags = ALONE

    def fields(self, **own: Any) -> dict[str, Any]:
        """As in `SharedFlags`, with the second pass."""
        return super().fields(**own) | self.hires.given()

    def around(self, task: "Task") -> "Task":
        """As in `SharedFlags`, with the refiner."""
        return self.refiner.around(super().around(task), self.with_model)

    def setup(self) -> "Setup":
        """What cells need beside their requests."""
        from ..generate.explore.job import Setup

        return Setup(
            adapters=tuple(self.adapters.files()), steered=" ".join((self.steering.told(), self.refiner.told())).strip()
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunFlags(SharedFlags):
    """What every command takes that draws one request: what becomes of the pictures, too."""

    output: OutputFlags = AS_USUAL

    def draw(
        self,
        kind: type[TextToImage],
        given: Mapping[str, Any],
        task: "Task",
        *,
        length: "Callable[[TextToImage, Model], int] | None" = None,
    ) -> None:
        """Draws a request of a kind with the given fields, the model's own defaults for the others, and saves all.

        `length` tells the steps to one picture, where they are not those of the request.
        """
        from ..generate.drawing import Picture, settled
        from .progress import Preview, Progress

        files, output, task = self.adapters.files(), self.output, self.around(task)
        asked = settled(kind(**given))  # says what is wrong before a model is loaded for it
        self.language.check(asked)
        folder, file = folder_and_file(output.out, ".png")
        check_writable(folder, file)
        plain = self.with_model.load()
        request = settled(kind(**{**_defaults(plain, kind), **given}))
        shown = Preview(plain, folder / "preview.png") if output.preview else None
        pictures: list[Picture] = []
        name = slug(request.prompt)
        done, steps = 0, length(request, plain) if length else step_count(request)
        with Progress(steps, request.count, quiet=output.json_lines) as progress:
            for event in self.language.drawn(plain, request, files, task):
                if isinstance(event, Picture):
                    event, done = _enlarged(event, output.upscale), 0
                    pictures.append(event)
                    path = save_picture(event, file or folder / f"{event.record.seed}-{name}.png")
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


AS_TYPED, RUN_ONCE = TextFlags(), RunFlags()
