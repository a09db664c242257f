"""A tiny table of illustrations: disks and squares of many colors, some of them held out."""

import io
from colorsys import hsv_to_rgb

import pyarrow
import pyarrow.parquet
from PIL import Image, ImageDraw

STYLES = {"3d render": "fluent", "flat modern": "fluent", "bold flat": "emojione", "clip art": "openclipart"}
NAMES = (
    "apple", "book", "cup", "drum", "eye", "fan", "gem", "hat", "inn", "jar", "key", "lamp", "map", "nut", "owl", "pen",
)  # fmt: skip


def write_table(path, side=32):
    """Every name in every style; two names and one pair are held out."""
    rows = []
    for number, name in enumerate(NAMES):
        for place, (style, family) in enumerate(STYLES.items()):
            held = "concept_holdout" if number < 2 else "pair_holdout" if (number, place) == (2, 2) else "train"
            rows.append({
                "image": {"bytes": drawing(number, place, side), "path": None},
                "caption": f"a {name}, {style}",
                "label": name,
                "style_words": style,
                "family": family,
                "concept": "" if family == "openclipart" else f"1F{number:03X}",
                "split": held,
                "group": "objects",
                "subgroup": "tool",
                "mono": False,
                "coverage": 0.5,
            })  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def drawing(number, place, side):
    """PNG bytes of a shape whose color tells the name, and whose outline the style."""
    color = tuple(round(255 * part) for part in hsv_to_rgb(number / len(NAMES), 0.9, 0.5 + 0.12 * place))
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    box = side // 8, side // 8, side - side // 8, side - side // (8 if number % 2 else 3)
    (pen.ellipse if place % 2 else pen.rectangle)(box, fill=(*color, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
