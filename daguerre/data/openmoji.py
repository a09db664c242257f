"""Builds a table of captioned pictures from OpenMoji: one style of 1,393 things, licensed CC BY-SA 4.0."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..files.durable import durable_text, durable_write
from .decode import PictureError, probe
from .packages import Package, fetched
from .phrases import with_article

GROUPS = (
    "smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects"
)  # fmt: skip
STYLE, LICENSE, SIZE, HELD_OUT = "outlined", "CC-BY-SA-4.0", 128, 100  # pixels; one in so many is for validation
CARD = """# {name} {version} as captioned pictures

{count:,} pictures of {size} x {size} pixels, WebP with transparency, one row each in `openmoji.parquet`.

- Credit: all emojis designed by [OpenMoji](https://openmoji.org), the open-source emoji and icon project, and by the
  people in the column `author`. License: [CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/).
- Changes: drawn from the color SVG files as pixels, resized; captions are the names with an article and "{style}".
- What is trained on these pictures and shared should say so and be under the same license.
- Source: the npm package {name}@{version}, SHA-256 {sha256}.
- Groups: {groups}; no skin-tone variants, flags or symbols.
- A drawing that has several names is one row; the other names are among its `tags`.
- Splits: `train`, and `val` for one picture in {held_out}, chosen by a hash of its code point.
"""


OPENMOJI = Package("openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68")


def build(folder: Path, package: Package = OPENMOJI) -> Iterator[tuple[int, int]]:
    """Writes `openmoji.parquet` and `README.md` into a folder; yields (pictures drawn, of all) as it goes.

    A finished table stays as it is; what was fetched and drawn before an interruption is used again. Raises
    ModuleNotFoundError or OSError that tells what to install, and ValueError if the package is not the pinned one.
    """
    path = folder / "openmoji.parquet"
    if path.is_file():
        return
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
        import resvg_py  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"building data needs {error.name}: pip install 'daguerre[data,train]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    concepts, drawings = _opened(fetched(package, folder))
    drawn = folder / f"{package.name}-{package.version}.partial"
    drawn.mkdir(exist_ok=True)
    rows: dict[bytes, dict[str, Any]] = {}
    for i, concept in enumerate(concepts):
        yield i, len(concepts)
        picture = _picture(drawn / f"{concept['hexcode']}.webp", drawings[concept["hexcode"]])
        if picture in rows:
            rows[picture]["tags"].append(concept["annotation"])  # another name of the same drawing
        else:
            rows[picture] = _row(concept, picture, package)
    card = CARD.format(
        name=package.name, version=package.version, sha256=package.sha256, count=len(rows), size=SIZE, style=STYLE,
        groups=", ".join(GROUPS), held_out=HELD_OUT,
    )  # fmt: skip
    table = pyarrow.Table.from_pylist(list(rows.values()))
    durable_text(folder / "README.md", card)
    durable_write(path, lambda target: pyarrow.parquet.write_table(table, target, row_group_size=256))
    shutil.rmtree(drawn)
    yield len(concepts), len(concepts)


def _opened(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The things that will be drawn, and SVG text by code point."""
    names: list[dict[str, Any]] = []
    drawings = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if file := archive.extractfile(member) if member.isreg() else None:
                if member.name == "package/data/openmoji.json":
                    names = json.load(file)
                elif member.name.startswith("package/color/svg/"):
                    drawings[Path(member.name).stem] = file.read().decode("utf-8")
    wanted = [n for n in names if n["group"] in GROUPS and not n["skintone"] and n["hexcode"] in drawings]
    return wanted, drawings


def _picture(path: Path, svg: str) -> bytes:
    """A drawing as WebP without loss, from `path` if it is there and whole."""
    import resvg_py

    try:
        if path.is_file() and probe(data := path.read_bytes()) == (SIZE, SIZE):
            return data
    except PictureError:
        pass  # torn by a crash
    large = resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE, dpi=96, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(large)), formats=["PNG"]) as png:
        small = png.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)  # Pillow premultiplies
    memory = io.BytesIO()
    small.save(memory, "WEBP", lossless=True)
    path.write_bytes(memory.getvalue())
    return memory.getvalue()


def _row(concept: Mapping[str, Any], picture: bytes, package: Package) -> dict[str, Any]:
    label, code = concept["annotation"], concept["hexcode"]
    said = f"{concept['tags']},{concept['openmoji_tags']}".split(",")
    tags = [tag for tag in dict.fromkeys(t.strip() for t in said) if tag and tag != label]
    held_out = int(hashlib.sha256(code.encode()).hexdigest(), 16) % HELD_OUT == 0
    return {
        "image": {"bytes": picture, "path": f"{code}.webp"},
        "caption": f"{with_article(label)}, {STYLE}",
        "label": label,
        "tags": tags,
        "style_words": STYLE,
        "group": concept["group"],
        "subgroup": concept["subgroups"],
        "author": concept["openmoji_author"],
        "licence": LICENSE,
        "source": f"{package.name}@{package.version}",
        "split": "val" if held_out else "train",
    }
