"""Draws what tintype makes of some prompts before and after training, at equal seeds, none picked.

python docs/draw_adapter_grid.py docs/lora-openmoji.png --lora FILE "a red apple, outlined" "a cat face, outlined"
python docs/draw_adapter_grid.py docs/inversion.png --embedding FILE --real my-pictures/ "a zwx" "a zwx, 3d render"
"""

import argparse
import textwrap
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

import daguerre
from daguerre.adapters.adapted import AdapterFile, adapted

SIZE, TITLE, CAPTION, SEED = 128, 70, 40, 1  # sizes in pixels
INK = "#555555"


def row(model: daguerre.Model, prompts: list[str]) -> list[Image.Image]:
    """A picture of each prompt."""
    requests = [replace(model.defaults, prompt=prompt, seed=SEED) for prompt in prompts]
    return [e.image for r in requests for e in daguerre.text_to_image(model, r) if isinstance(e, daguerre.Picture)]


def real(folder: Path, most: int) -> list[Image.Image]:
    """The first pictures of a folder, whole, on white."""
    found = []
    for path in sorted(folder.iterdir())[:most]:
        picture = Image.open(path).convert("RGBA")
        found.append(
            ImageOps.pad(
                Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture), (SIZE, SIZE), color="white"
            )
        )
    return found


def draw(prompts: list[str], lora: Path | None, embedding: Path | None, pictures: Path | None) -> Image.Image:
    """The grid: real pictures if there are any, before, after; a caption under every column."""
    rows = {"learned from": real(pictures, len(prompts))} if pictures else {}
    model = daguerre.load_model()
    rows["before"] = row(model, prompts)
    given = AdapterFile(kind="lora", path=lora) if lora else AdapterFile(kind="embedding", path=embedding or Path())
    with adapted(model, [given]) as (changed, _):
        rows["after"] = row(changed, prompts)
    sheet = Image.new("RGB", (TITLE + len(prompts) * SIZE, len(rows) * SIZE + CAPTION), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for y, (title, shown) in enumerate(rows.items()):
        pen.multiline_text((6, y * SIZE + 58), textwrap.fill(title, 10), INK, font)
        for x, picture in enumerate(shown):
            sheet.paste(picture.convert("RGB"), (TITLE + x * SIZE, y * SIZE))
    for x, prompt in enumerate(prompts):
        pen.multiline_text((TITLE + x * SIZE + 4, len(rows) * SIZE), textwrap.fill(prompt, 20), INK, font, spacing=0)
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--embedding", type=Path)
    parser.add_argument("--real", type=Path, help="a folder of the pictures that were learned from")
    flags = parser.parse_args()
    draw(flags.prompts, flags.lora, flags.embedding, flags.real).save(flags.target, optimize=True)
