"""`daguerre heatmap`: which word of a prompt drew what."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..provenance import png
from ..request import RequestError, TextToImage
from .files import save_bytes, save_picture, slug
from .flags import BUILT_IN_MODEL, PLAIN, STANDARD, AdapterFlags, DrawingFlags, ModelFlags

if TYPE_CHECKING:
    from PIL import Image

    from ..generate.drawing import Picture


def heatmap(
    prompt: str,
    /,
    *,
    word: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    drawing: DrawingFlags = STANDARD,
    with_model: ModelFlags = BUILT_IN_MODEL,
    adapters: AdapterFlags = PLAIN,
    out: Path = Path("outputs"),
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
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
        The folder for the pictures.
    json_lines
        Print one JSON object that names the files.
    """
    from ..adapters.adapted import adapted
    from ..generate.drawing import Picture
    from ..generate.explore.plan import Plan, Words
    from ..generate.explore.sheet import compose
    from ..generate.heat_maps import HeatMaps
    from ..generate.text_to_image import text_to_image
    from .progress import Progress

    fields = {"prompt": prompt, **drawing.given()}
    if TextToImage(**fields).count != 1:
        raise RequestError("--count: heat maps are of one picture; leave it out, or run this once for each --seed")
    files = adapters.files()
    plain = with_model.load()
    request, maps = replace(plain.defaults, **fields), HeatMaps(word)
    with adapted(plain, files) as (model, used), Progress(request.steps, 1, quiet=json_lines) as progress:
        for event in text_to_image(model, request, controls=[maps]):
            if isinstance(event, Picture):
                picture = replace(event, record=replace(event.record, adapters=used))
            else:
                progress.step(0, event.i)
        name = f"{picture.record.seed}-{slug(prompt)}"
        paths = [save_picture(picture, out / f"{name}.png")]
        progress.saved(paths[0], picture.seconds)
    paths += [_save(maps.overlay(one, picture.image), one, paths[0], picture) for one in maps.words]
    labels = tuple((Words(text),) for text in ("", *maps.words))
    sheet = _save(compose(Plan(labels, ((),), ((),), ()), paths), "words", paths[0], picture)
    if not json_lines:
        print(*paths[1:], sheet, sep="\n")
        return
    shares = {one: round(float(maps.of(one).mean()), 5) for one in maps.words}
    told = dict(zip(maps.words, map(str, paths[1:]), strict=True))
    print(json.dumps({"path": str(paths[0]), "sheet": str(sheet), "words": told, "attention": shares}))


def _save(image: "Image.Image", what: str, beside: Path, picture: "Picture") -> Path:
    """Writes a picture made of another beside it, with the record of that."""
    data = png.encode(image, picture.record, is_whole=False)
    return save_bytes(data, beside.with_stem(f"{beside.stem}-{slug(what)}"))
