"""`daguerre img2img`, `inpaint`, `outpaint` and `edit`: given pictures to new ones."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from ..request import Edit, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage, TiledUpscale
from .drawing import RUN_ONCE, RunFlags, step_count
from .exit import UNUSABLE, Failure
from .files import read_picture
from .flags import refuse_alone
from .kinds import GIVEN, MASK, Switch

if TYPE_CHECKING:
    from ..families.model import Model
    from ..generate.drawing import Task
    from ..provenance.record import Record, UsedPicture

ALPHA = "alpha"  # in place of a mask's file
Fill = Literal["fill", "original", "latent noise", "latent nothing"]


@Parameter(name="*", group=GIVEN)
@dataclass(frozen=True, kw_only=True)
class StrengthFlags:
    """How far a drawing goes from the picture that it begins with.

    Parameters
    ----------
    strength
        0 keeps the picture but for one step, 1 keeps no more than traces of it.
    exact_steps
        Take all of --steps, not the share of them that the strength says.
    resize
        How a picture of another shape gets to --size.
    noise_multiplier
        More than 1 gives finer detail, less gives calm surfaces.
    """

    strength: float | None = None
    exact_steps: Switch = False
    resize: Literal["stretch", "crop", "fill", "latent"] = "crop"
    noise_multiplier: float = 1.0

    def given(self) -> dict[str, Any]:
        """The fields of an `ImageToImage` that were given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@Parameter(name="*", group=MASK)
@dataclass(frozen=True, kw_only=True)
class MaskFlags:
    """What the mask means.

    Parameters
    ----------
    mask_blur
        How soft the edge between old and new is, in pixels; beyond int(2.5 * mask_blur + 0.5) of them nothing changes.
    fill
        What the masked part begins as: the colors around it, the picture itself, noise, or nothing.
    only_masked
        Draw the masked part at full --size, and paste it back.
    padding
        How many pixels around it are seen then; 32 by default.
    invert
        Draw what the mask leaves out.
    differential
        Gray in the mask is how much may change.
    """

    mask_blur: float = 4.0
    fill: Fill = "original"
    only_masked: Switch = False
    padding: int | None = None
    invert: Switch = False
    differential: Switch = False

    def given(self) -> dict[str, Any]:
        """The fields of an `Inpaint` that were given."""
        refuse_alone("--padding", self.padding, "--only-masked", self.only_masked)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


AS_FAR, AS_MASKED = StrengthFlags(), MaskFlags()


def img2img(image: Path, prompt: str, /, *, how: StrengthFlags = AS_FAR, run: RunFlags = RUN_ONCE) -> None:
    """Draw over a picture.

    Parameters
    ----------
    image
        The picture to begin with; what is transparent lies on white.
    prompt
        What to draw.
    """
    given = run.fields(prompt=prompt, **how.given())
    task, _ = task_of(ImageToImage(**given), image)
    run.draw(ImageToImage, given, task)


def inpaint(
    image: Path,
    mask: str,
    prompt: str,
    /,
    *,
    masked: MaskFlags = AS_MASKED,
    how: StrengthFlags = AS_FAR,
    run: RunFlags = RUN_ONCE,
) -> None:
    """Draw a part of a picture anew; every other pixel stays as it is.

    Parameters
    ----------
    image
        The picture.
    mask
        A picture of the same size, white where to draw; or "alpha": what is transparent is drawn.
    prompt
        What to draw.
    """
    given = run.fields(prompt=prompt, **how.given(), **masked.given())
    task, _ = task_of(Inpaint(**given), image, None if mask == ALPHA else Path(mask))
    run.draw(Inpaint, given, task)


def outpaint(
    image: Path,
    prompt: str,
    /,
    *,
    left: int = 0,
    right: int = 0,
    up: int = 0,
    down: int = 0,
    mask_blur: float = 4.0,
    fill: Fill = "fill",
    how: StrengthFlags = AS_FAR,
    run: RunFlags = RUN_ONCE,
) -> None:
    """Draw on beyond the edges of a picture. --size is that of the windows it is done in.

    Parameters
    ----------
    image
        The picture.
    prompt
        What the whole picture shows.
    left
        How many pixels to add there.
    right
        How many pixels to add there.
    up
        How many pixels to add there.
    down
        How many pixels to add there.
    mask_blur
        How soft the seam is, in pixels of the picture; beyond int(2.5 * mask_blur + 0.5) of them nothing changes.
    fill
        What the new part begins as: the picture mirrored, black, noise, or nothing.
    """
    edges = {"left": left, "right": right, "up": up, "down": down}
    given = run.fields(prompt=prompt, mask_blur=mask_blur, fill=fill, **edges, **how.given())
    task, _ = task_of(Outpaint(**given), image)

    def length(request: TextToImage, model: "Model") -> int:
        from ..generate.outpaint import planned

        assert isinstance(request, Outpaint)
        own = model.defaults.width, model.defaults.height
        return step_count(request) * len(planned(request, read_picture(image).size, own).corners)

    run.draw(Outpaint, given, task, length=length)


def edit(
    image: Path, prompt: str, /, *, image_cfg: float = 1.5, how: StrengthFlags = AS_FAR, run: RunFlags = RUN_ONCE
) -> None:
    """Change a picture as you say, by a model that was trained for it.

    Parameters
    ----------
    image
        The picture.
    prompt
        What to change, such as "make it snow".
    image_cfg
        How closely to keep to the picture.
    """
    given = run.fields(prompt=prompt, image_cfg_scale=image_cfg, **how.given())
    task, _ = task_of(Edit(**given), image)
    run.draw(Edit, given, task)


def task_of(request: ImageToImage, image: Path, mask: Path | None = None) -> "tuple[Task, tuple[UsedPicture, ...]]":
    """What draws such a request from these files, and what a record will say of the pictures.

    Raises Failure for pictures that do not fit the request, before there is a model.
    """
    from ..generate import edit, given, image_to_image, inpaint, masks, outpaint, tiled_upscale, upscale

    picture, own = read_picture(image), (512, 512)
    draw: dict[type[ImageToImage], Any] = {
        ImageToImage: image_to_image.image_to_image,
        Inpaint: partial(inpaint.inpaint, mask=None if mask is None else read_picture(mask)),
        Outpaint: outpaint.outpaint,
        TiledUpscale: tiled_upscale.tiled_upscale,
        Edit: edit.edit,
    }
    try:
        if isinstance(request, Inpaint):
            colors, values = masks.picture_and_mask(picture, draw[Inpaint].keywords["mask"], request)
            used: tuple[UsedPicture, ...] = (given.used("image", colors), given.used("mask", values))
        else:
            used = (given.used("image", given.opaque(picture)),)
            if isinstance(request, Outpaint):
                outpaint.planned(request, picture.size, own)
            elif isinstance(request, TiledUpscale):
                tiled_upscale.with_size(request, picture.size)
                upscale.find_upscaler(request.upscaler)
            else:
                given.with_size_of(request, picture.size)
    except RequestError as error:
        raise Failure(f"{mask or image}: {error}", UNUSABLE) from error
    return partial(draw[type(request)], image=picture), used


def recorded_task(made: Path, then: "Record", image: Path | None, mask: Path | None) -> "Task":
    """What draws a recorded picture again; raises Failure where the pictures that it was made from are not given."""
    from ..generate.text_to_image import text_to_image

    request = then.again()
    if not isinstance(request, ImageToImage):
        return text_to_image
    if image is None:
        needed = "--image and --mask" if isinstance(request, Inpaint) else "--image"
        raise Failure(f"{made}: it was drawn from a picture; name that file with {needed}", UNUSABLE)
    task, given = task_of(request, image, mask)
    for used in given:
        if used not in then.pictures:
            told = ", ".join(map(str, then.pictures))
            raise Failure(f"{made}: it was drawn from {told}; what is given now is {used}", UNUSABLE)
    return task
