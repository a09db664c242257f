"""Drawings of single things with one name, cut out of a table of illustrations, to be put into scenes."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .colors import COLORS, Array, Pixels, color_name, dominant
from .parquet import ParquetTable
from .phrases import is_plural

STYLES = (
    "3d render", "glossy gradient", "flat modern", "soft gradient cartoon", "flat vector sticker", "bold flat",
    "pastel flat", "retro cartoon",
)  # fmt: skip
GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
SUBGROUPS = (  # of the other groups, and nothing of theirs that is an act or a gesture
    "heart", "face-costume", "face-hat", "face-glasses", "cat-face", "monkey-face", "person-role", "person-fantasy",
    "body-parts",
)  # fmt: skip
PEOPLE = ("person-role", "person-fantasy", "body-parts")  # their skin keeps its color
# Names that nobody counts: substances, games, acts and places that are one of a kind.
UNCOUNTED = re.compile(
    r".*(o’clock|thirty| arrival| departure|creasing|construction|hockey|bread|rice| food|shrimp| liquid| arts| Claus)"
    r"|(two|man|woman|pregnant|mount|Tokyo|Mrs\.|Mx) .*|two-.*|.*:.*|kaaba|dna|metro|motorway|light rail|wedding"
    r"|badminton|cricket game|lacrosse|bowling|thread|yarn|ice|mate|sake|bacon|butter|salt|popcorn|cooking|spaghetti"
    r"|oden|shaved ice|custard|fondue|garlic|broccoli|leafy green|foggy|fog|fire|high voltage|landslide|camping|wood"
    r"|sunrise|sunset|soap|milky way|breast-feeding|locked|unlocked|biting lip|cityscape|desert|national park|x-ray"
    r"|world map|curling|seat|tear-off calendar|heart exclamation|heart decoration|mouth|tongue|cricket|hole|milk"
    r"|station|ginger root|magnet|dizzy|mahjong|luggage|hourglass done|.*tennis"
)
CLEAR = 40  # alpha, of 255, below which a pixel is none of the thing's


@dataclass(frozen=True, eq=False)
class Cutout:
    """A thing, drawn in a style.

    `pixels` are RGBA of 8 bits (H, W, 4), cropped to the drawing. `noun` is the name without a color ("red apple"
    is an "apple"); `color` the name of the color that dominates, None where none does. `recolorable` says that it is
    the only one, so that the drawing can be had in any other.
    """

    pixels: Pixels
    name: str
    style: str
    color: str | None
    recolorable: bool
    paint: Array  # the dominant color in Oklab, (3,)

    @property
    def noun(self) -> str:
        """The name without a color in front."""
        return noun_of(self.name)


def noun_of(name: str) -> str:
    """A name without the color it begins with."""
    first, _, rest = name.partition(" ")
    return rest if rest and (first in COLORS or first == "grey") else name


def countable(row: Mapping[str, Any]) -> bool:
    """Whether a row of the table shows one nameable thing in a color style, of one or two words."""
    name, subgroup = str(row["label"]), str(row.get("subgroup"))
    return (
        row.get("split") == "train"
        and not row.get("mono")
        and row.get("style_words") in STYLES
        and 0.15 <= float(row.get("coverage") or 0) <= 0.9
        and len(name.split()) <= 2
        and (row.get("group") in GROUPS or subgroup in SUBGROUPS)
        and not is_plural(name)
        and not UNCOUNTED.fullmatch(name)
    )


def load_cutouts(path: Path, size: int = 128) -> Sequence[Cutout]:
    """The cut-outs of an illustrations table's split "train", in its order, at most `size` pixels high and wide.

    Raises ValueError for a file that is no such table or has none.
    """
    table = ParquetTable(path)
    columns = ["label", "style_words", "group", "subgroup", "mono", "coverage", "split"]
    if missing := [name for name in ("image", *columns) if name not in table.columns]:
        raise ValueError(f"{path} has no column `{missing[0]}`; give a table of `daguerre data build illustrations`")
    found = [
        _cut(table.value(number, "image")["bytes"], row, size)
        for number, row in enumerate(table.rows(columns))
        if countable(row)
    ]
    if not found:
        raise ValueError(f"{path} has no drawings of single things in its split train; scenes need some")
    return found


def _cut(data: bytes, row: Mapping[str, Any], size: int) -> Cutout:
    with Image.open(io.BytesIO(data)) as file:
        image = file.convert("RGBA")
    if max(image.size) > size:
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    pixels = cropped(np.asarray(image))
    inside = pixels[::2, ::2][pixels[::2, ::2, 3] > 127][:, :3]
    paint, one = dominant(inside) if len(inside) else (np.zeros(3, np.float32), False)
    return Cutout(
        pixels=pixels, name=str(row["label"]), style=str(row["style_words"]), color=color_name(paint) if one else None,
        recolorable=one and row["subgroup"] not in PEOPLE, paint=paint,
    )  # fmt: skip


def cropped(pixels: Pixels) -> Pixels:
    """A drawing (H, W, 4) without the clear rows and columns around it."""
    seen = pixels[..., 3] >= CLEAR
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return pixels
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
