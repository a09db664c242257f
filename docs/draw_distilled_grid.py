"""Draws docs/tintype-turbo.png: a distilled tintype beside its teacher at equal seeds, 12 prompts, none picked.

python docs/draw_distilled_grid.py runs/tintype-turbo/output/tintype-turbo.safetensors
"""

import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

from draw_tintype_grid import TAUGHT
from PIL import Image, ImageDraw, ImageFont

import daguerre

TARGET = Path(__file__).with_name("tintype-turbo.png")
COLUMNS, SIZE, TITLE, CAPTION, SEED = 12, 128, 100, 26, 1  # sizes in pixels
# Every fourth of the prompts that draw_tintype_grid.py has, which begin with things that tintype was taught.
PROMPTS = [prompt.strip() for line in TAUGHT.split("\n") for prompt in line.split("|") if prompt.strip()][::4][:COLUMNS]


def rows(student: daguerre.Model, teacher: daguerre.Model) -> dict[str, tuple[daguerre.Model, dict[str, Any]]]:
    """What is drawn in each row: by which model, and what differs from its defaults."""
    return {
        "teacher, 25 steps": (teacher, {"steps": 25}),
        "student, 1 step": (student, {"steps": 1}),
        "student, 4 steps": (student, {"steps": 4}),
        "teacher, 1 step": (teacher, {"steps": 1}),
        "teacher, 4 steps": (teacher, {"steps": 4}),
        "teacher, 4 steps, student's schedule": (teacher, {"steps": 4, "schedule": "turbo"}),
    }


def draw(path: Path) -> Image.Image:
    """The grid, a caption under every column and a title before every row."""
    student, teacher = daguerre.load_model(path), daguerre.load_model()
    drawn, font = rows(student, teacher), ImageFont.load_default(11)
    sheet = Image.new("RGB", (TITLE + COLUMNS * SIZE, len(drawn) * SIZE + CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (title, (model, changes)) in enumerate(drawn.items()):
        pen.multiline_text((6, row * SIZE + 50), textwrap.fill(title, 15), "#555555", font, spacing=2)
        for column, prompt in enumerate(PROMPTS):
            for event in daguerre.text_to_image(model, replace(model.defaults, prompt=prompt, seed=SEED, **changes)):
                if isinstance(event, daguerre.Picture):
                    sheet.paste(event.image, (TITLE + column * SIZE, row * SIZE))
    for column, prompt in enumerate(PROMPTS):
        place = TITLE + column * SIZE + 4, len(drawn) * SIZE
        pen.multiline_text(place, textwrap.fill(prompt, 21), "#555555", font, spacing=0)
    return sheet


if __name__ == "__main__":
    draw(Path(sys.argv[1])).save(TARGET, optimize=True)
