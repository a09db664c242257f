"""`daguerre show` and `daguerre reproduce`: what a picture says of itself, and the proof of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from ..provenance import png
from ..provenance.record import Record, differences, pixel_sha256
from .drawing import step_count
from .exit import FAILED, UNUSABLE, Failure
from .files import save_picture
from .flags import ModelFlags
from .kinds import Json, Paths
from .language import PLACES
from .models import folder
from .passes import RefinerFlags
from .redraw import recorded_task
from .steered_again import steered_again

if TYPE_CHECKING:
    from ..adapters.adapted import AdapterFile
    from ..families.model import Model, Prediction
    from ..generate.drawing import Picture, Task

KINDS: "dict[str, Prediction]" = {"epsilon": "epsilon", "v": "v", "flow": "flow"}


def show(picture: Path, /, *, json_lines: Json = False) -> None:
    """Print how a picture was made.

    Parameters
    ----------
    picture
        A PNG made by daguerre or by another tool that writes A1111's text.
    json_lines
        Print our own record as one JSON object.
    """
    record, infotext = png.read(picture)
    if json_lines:
        print(_record(picture, record).to_json())
        return
    if record is None and infotext is None:
        raise Failure(f"{picture}: this picture does not say how it was made", UNUSABLE)
    print(infotext or "")
    if record is not None:
        print()
        for name, value in json.loads(record.to_json()).items():
            if name != "request":
                shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
                shown = ", ".join(map(str, getattr(record, name))) if name in ("adapters", "upscalers") else shown
                print(f"{name:14} {shown}")


def reproduce(
    picture: Path,
    /,
    *,
    model: str | None = None,
    vae: Path | None = None,
    lora: Paths = (),
    embedding: Paths = (),
    upscaler: Path | None = None,
    image: Path | None = None,
    mask: Path | None = None,
    refiner: str | None = None,
    given: Paths = (),
    device: str | None = None,
    out: Path | None = None,
) -> None:
    """Draw a picture again from its record; says what differs if the pixels do.

    Parameters
    ----------
    picture
        A PNG that daguerre made.
    model
        Where the model is now, if it has moved; its hash decides whether it is the same.
    vae
        Where the separate VAE is now, if there was one.
    lora
        Where a LoRA is now, for each that there was and that is not in your loras; the weights are as recorded.
    embedding
        Where an embedding is now, for each that there was and that is not in your embeddings.
    upscaler
        Where the upscaler is now, if there was one that is not the built-in.
    image
        The picture that it was drawn from, if there was one; its hash decides whether it is the same.
    mask
        The mask, if there was one.
    refiner
        Where the refiner is now, if there was one and it has moved.
    given
        Where the controls and the pictures are now that it was steered by, if there were any.
    device
        Where to draw; the kind of device that the record names by default.
    out
        Also save the new picture here.
    """
    from ..adapters.adapted import adapted

    then = _record(picture, png.read(picture)[0])
    task = steered_again(picture, then, given, recorded_task(picture, then, image, mask))
    files = _files(picture, then, (*lora, *embedding))
    flags = replace(_as_then(then), model=model or then.model, vae=vae, device=device or then.device)
    loaded = _loaded(picture, then, flags)
    task = _refined(task, then, flags, refiner)
    with adapted(loaded, files) as (whole, used):
        now = _enlarged(_draw(whole, then, task), then, upscaler)
    now = replace(now, record=replace(now.record, adapters=used))
    if out:
        print(save_picture(now, out))
    _compare(picture, then, now.record)


def _as_then(then: Record) -> ModelFlags:
    """What decides how a model runs, but for its files and its device."""
    return ModelFlags(
        family=then.family,
        prediction=KINDS.get(then.prediction),
        dtype=then.dtype,
        low_memory=then.mode == "low memory",
    )


def _loaded(picture: Path, then: Record, flags: ModelFlags) -> "Model":
    """The model; tells whether it is another."""
    if then.vae and flags.vae is None:
        raise Failure(f"{picture}: it was drawn with a separate VAE, {then.vae!r}; name that file with --vae", UNUSABLE)
    loaded = flags.load()
    if loaded.sha256 != then.model_sha256:
        print(f"another model: sha256 {then.model_sha256[:10]} then, {loaded.sha256[:10]} now")
    return loaded


def _compare(picture: Path, then: Record, now: Record) -> None:
    """Tells whether a file's picture was drawn again to the pixel; raises Failure that says what differs."""
    if now.pixel_sha256 != then.pixel_sha256:
        found = differences(then, now) or ["nothing that the record knows of"]
        raise Failure(f"{picture}: the pixels differ. What differs in the making:\n  " + "\n  ".join(found), FAILED)
    with Image.open(picture, formats=["PNG"]) as stored:
        if pixel_sha256(stored) != then.pixel_sha256:
            raise Failure(f"{picture}: drawn again as recorded, but the pixels in this file were changed since", FAILED)
    print(f"{picture}: pixel-identical (sha256 {then.pixel_sha256})")


def _files(picture: Path, then: Record, given: tuple[Path, ...]) -> "list[AdapterFile]":
    """Each recorded adapter's file, as its hash tells."""
    from ..adapters.adapted import AdapterFile
    from ..adapters.lora_file import adapter_sha256
    from ..adapters.named import called

    own = [path for used in then.adapters for path in called(used.name, folder() / PLACES.get(used.kind, "loras"))]
    here, files = {adapter_sha256(path): path for path in (*own, *given)}, []
    for used in then.adapters:
        if used.sha256 not in here:
            raise Failure(
                f"{picture}: it was drawn with the {used.kind} {used.name!r} (sha256 {used.sha256[:10]}), which none "
                f"of the {len(given)} files given is; name that file with --{used.kind}",
                UNUSABLE,
            )
        files.append(
            AdapterFile(
                kind=cast("Any", used.kind if used.kind in PLACES else "lora"),
                path=here[used.sha256],
                weight=used.weight,
                text_weight=used.text_weight,
                word=used.name if used.kind == "embedding" else "",
                name=used.name,
                ranks=used.ranks,
                during=used.during,
            )
        )
    return files


def _refined(task: "Task", then: Record, flags: ModelFlags, refiner: str | None) -> "Task":
    """The task with the refiner of the record, if there was one."""
    for used in then.controls:
        if used.kind == "refiner":
            return RefinerFlags(refiner=refiner or used.name, switch_at=used.start).around(task, flags)
    return task


def _draw(model: "Model", then: Record, task: "Task") -> "Picture":
    from ..generate.drawing import Picture
    from ..runtime.device import exact
    from .progress import Progress

    request, done = then.again(), 0
    with exact(then.threads), Progress(step_count(request), 1, quiet=False) as progress:
        for event in task(model, request):
            if isinstance(event, Picture):
                return event
            progress.step(0, done)
            done += 1
    raise AssertionError("unreachable: a request for one picture gives one")


def _enlarged(now: "Picture", then: Record, upscaler: Path | None) -> "Picture":
    """A picture that was drawn again, enlarged as it was then."""
    from ..generate.upscale import load_upscaler, upscaled

    for used in then.upscalers:
        now = upscaled(now, used.scale, load_upscaler(upscaler))
    return now


def _record(picture: Path, record: Record | None) -> Record:
    if record is None:
        raise Failure(
            f"{picture}: no daguerre record in this picture; only pictures made by daguerre have one", UNUSABLE
        )
    return record
