"""`daguerre heatmap`: which word of a prompt drew what."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.durable import durable_new
from ..provenance import png
from ..request import RequestError, TextToImage
from .drawing import AS_TYPED, TextFlags, step_count
from .files import check_writable, folder_and_file, save_picture, slug
from .kinds import Json, Texts

if TYPE_CHECKING:
    from PIL import Image

    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Control, Picture
    from ..generate.heat_maps import HeatMaps


def heatmap(
    prompt: str,
    /,
    *,
    word: Texts = (),
    flags: TextFlags = AS_TYPED,
    out: Path = Path("outputs"),
    json_lines: Json = False,
) -> None:
    """Draw a picture, and over it how much each place looked at each word of its prompt.

    Writes the picture, one overlay per word, and all of them in one sheet.

    Parameters
    ----------
    prompt
        What to draw.
    word
        A word or phrase of the prompt; may be given several times. By default every word.
    out
        The folder for the pictures, or the name of the picture itself, which others are called by.
    json_lines
        Print one JSON object that names the files.
    """
    from ..generate.drawing import Picture, settled
    from ..generate.heat_maps import HeatMaps
    from ..generate.text_to_image import text_to_image
    from .explore import defaults_of
    from .progress import Progress

    fields = flags.fields(prompt=prompt)
    if TextToImage(**fields).count != 1:
        raise RequestError("--count: heat maps are of one picture; leave it out, or run this once for each --seed")
    files, request = flags.adapters.files(), settled(replace(defaults_of(flags.with_model), **fields))
    flags.language.check(request)
    folder, file = folder_and_file(out, ".png")
    check_writable(folder, file)
    maps = HeatMaps(word)

    def watched(model: "Model", one: TextToImage, controls: "Sequence[Control]" = ()) -> "Iterator[Step | Picture]":
        return text_to_image(model, one, (*controls, maps))

    task, done = flags.around(watched), 0
    with Progress(step_count(request), 1, quiet=json_lines) as progress:
        for event in flags.language.drawn(flags.with_model.load(), request, files, task):
            if isinstance(event, Picture):
                picture = event
            else:
                progress.step(0, done)
                done += 1
        name = f"{picture.record.seed}-{slug(prompt)}"
        path = save_picture(picture, file or folder / f"{name}.png")
        progress.saved(path, picture.seconds)
    *overlays, sheet = _overlays(maps, path, picture)
    if not json_lines:
        print(*overlays, sheet, sep="\n")
        return
    shares = {one: round(float(maps.of(one).mean()), 5) for one in maps.words}
    told = dict(zip(maps.words, map(str, overlays), strict=True))
    print(json.dumps({"path": str(path), "sheet": str(sheet), "words": told, "attention": shares}))


def _overlays(maps: "HeatMaps", path: Path, picture: "Picture") -> list[Path]:
    """Writes an overlay for each word, and last all of them in one sheet."""
    from ..generate.explore.plan import Plan, Words
    from ..generate.explore.sheet import compose

    paths = [_save(maps.overlay(one, picture.image), one, path, picture) for one in maps.words]
    labels = tuple((Words(text),) for text in ("", *maps.words))
    return [*paths, _save(compose(Plan(labels, ((),), ((),), ()), [path, *paths]), "words", path, picture)]


def _save(image: "Image.Image", what: str, beside: Path, picture: "Picture") -> Path:
    """Writes a picture made of another beside it, with the record of that."""
    data = png.encode(image, picture.record, is_whole=False)
    return durable_new(beside.with_stem(f"{beside.stem}-{slug(what)}"), data)
