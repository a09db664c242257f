"""What steered a recorded picture, from its record and from the files that it tells of by their hashes."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..provenance.record import Record, UsedControl, UsedPicture, pixel_sha256
from ..request import RequestError, TextToImage
from .exit import UNUSABLE, Failure
from .files import read_picture

if TYPE_CHECKING:
    from PIL import Image

    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Control, Picture, Task

OTHERS = ("refiner",)  # that have a flag of their own


def steered_again(made: Path, then: Record, given: Sequence[Path], task: "Task") -> "Task":
    """The task with what the record tells of. Raises Failure where one of the files is not among those given."""
    if all(used.kind in OTHERS for used in then.controls):
        return task
    files = {path: sha256_of(path) for path in given}
    pictures = {used.role: _half(then, used) or _picture(made, used, files) for used in _controls(then)}
    for used in then.controls:
        if used.sha256 and used.kind not in OTHERS:
            _file(made, used, files)

    def steered(
        model: "Model", request: TextToImage, controls: "Sequence[Control]" = (), **more: Any
    ) -> "Iterator[Step | Picture]":
        own = _made(made, then, files, pictures, model)
        return task(model, request, controls=(*own, *controls), **more)

    return steered


def _made(
    made: Path, then: Record, files: dict[Path, str], pictures: "dict[str, Image.Image]", model: "Model"
) -> "Iterator[Control]":
    from ..generate.controls.networks import NetworkControl, load_control
    from ..generate.controls.picture_prompt import PicturePrompt, load_vision
    from ..generate.controls.regions import Region, Regions
    from ..generate.controls.steering import Span
    from ..generate.controls.style import Style

    regions, base = list[Region](), 0.0
    for i, used in enumerate(then.controls, 1):
        image = pictures.get(f"control {i}")
        if used.kind == "style":
            yield Style.recorded(used, image)
        elif used.kind == "region":
            regions.append(Region(mask=image or used.module, prompt=used.name, weight=used.weight))
            base = float(used.mode.removeprefix("base "))
        elif used.kind not in OTHERS:
            path = _file(made, used, files)
            how: Any = {"image": image, "weight": used.weight, "span": Span(used.start, used.end)}
            loaded = load_control(path, model)
            if used.kind == "IP-Adapter":
                yield PicturePrompt(loaded=loaded, vision=load_vision(_encoder(made, used, path, files), model), **how)
            else:
                how |= {"module": used.module, "mode": used.mode, "resize": used.resize}
                yield NetworkControl(loaded=loaded, **how)
    if regions:
        yield Regions(regions=tuple(regions), base=base)


def _controls(then: Record) -> list[UsedPicture]:
    return [used for used in then.pictures if used.role.startswith("control ")]


def sha256_of(path: Path) -> str:
    """The identity of a file of any kind, or of a folder's weights."""
    from ..adapters.lora_file import adapter_sha256
    from ..files.reader import open_checkpoint

    return open_checkpoint(path).sha256 if path.is_dir() else adapter_sha256(path)


def _encoder(made: Path, used: UsedControl, adapter: Path, files: dict[Path, str]) -> Path:
    """The CLIP that an IP-Adapter saw by: one of those given, or what lies beside the adapter."""
    from ..files.reader import open_checkpoint
    from ..generate.controls.picture_prompt import vision_beside, vision_sha256

    places = [path for path in files if not _is_picture(path)]
    with suppress(RequestError):
        places.append(vision_beside(adapter))
    for path in places:
        sha256 = files[path] if path.is_file() else vision_sha256(open_checkpoint(path))
        if sha256 == used.encoder:
            return path
    told = f"{made}: it was drawn with an IP-Adapter and a CLIP that it sees by (sha256 {used.encoder[:10]})"
    raise Failure(f"{told}, which does not lie beside it; name that file with --given", UNUSABLE)


def _file(made: Path, used: UsedControl, files: dict[Path, str]) -> Path:
    for path, sha256 in files.items():
        if sha256 == used.sha256:
            return path
    told = f"{made}: it was drawn with the {used.kind} {used.name!r} (sha256 {used.sha256[:10]})"
    raise Failure(f"{told}, which none of the {len(files)} files given is; name that file with --given", UNUSABLE)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def _half(then: Record, used: UsedPicture) -> "Image.Image | None":
    """The mask of a half of the picture, which older records tell of by its pixels and not by its name."""
    from ..generate.controls.regions import HALVES, half

    size = then.request.width, then.request.height
    masks = (half(name, size) for name in HALVES if all(size))
    return next((mask for mask in masks if pixel_sha256(mask) == used.sha256), None)


def _picture(made: Path, used: UsedPicture, files: dict[Path, str]) -> "Image.Image":
    """A given file's picture."""
    for path in filter(_is_picture, files):
        image = read_picture(path)
        if pixel_sha256(image) == used.sha256:
            return image
    told = f"{made}: it was drawn with a picture, {used.role} (sha256 {used.sha256[:10]} of its pixels)"
    raise Failure(f"{told}, which none of the {len(files)} files given is; name its file with --given", UNUSABLE)
