"""Draws docs/samplers.png, one prompt and seed by every sampler in 4, 8 and 16 steps; writes docs/samplers.md's tables.

`python docs/draw_samplers.py tables` only writes the tables.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import daguerre
from daguerre.diffusion.samplers import SAMPLERS, Spec
from daguerre.diffusion.schedule import SCHEDULES, scaled_linear

PAGE, SHEET = (Path(__file__).with_name(name) for name in ("samplers.md", "samplers.png"))
PROMPT, SEED, STEPS = "a penguin, 3d render", 1, (4, 8, 16)
SIZE, LABEL, BLOCKS = 80, 14, 4  # pixels of a picture and of the name above; columns of samplers
WORKERS = 4  # processes
NOISE = {"none": "", "fresh": "new in each step", "brownian": "Brownian path"}
BEGIN, END = "<!-- {}: written by draw_samplers.py -->", "<!-- end -->"


def sheet() -> Image.Image:
    """Every sampler's pictures in a row, its name above them, in four columns; 128 colors."""
    font, rows = ImageFont.load_default(11), -(-len(SAMPLERS) // BLOCKS)
    width = SIZE * len(STEPS) + LABEL
    canvas = Image.new("RGB", (width * BLOCKS, rows * (SIZE + LABEL)), "white")
    pen = ImageDraw.Draw(canvas)
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        for n, (name, pictures) in enumerate(zip(SAMPLERS, pool.map(row, SAMPLERS), strict=True)):
            x, y = n // rows * width, n % rows * (SIZE + LABEL)
            pen.text((x, y), name, "#333333", font)
            for column, picture in enumerate(pictures):
                canvas.paste(picture, (x + column * SIZE, y + LABEL))
            print(name, flush=True)
    return canvas.quantize(128)


@cache
def model() -> daguerre.Model:
    return daguerre.load_model()


def row(name: str) -> list[Image.Image]:
    """The pictures of one sampler with its own schedule; CFG++ takes a scale of its own."""
    request = replace(model().defaults, prompt=PROMPT, seed=SEED, sampler=name)
    if "CFG++" in name:
        request = replace(request, cfg_scale=7.0 if name.startswith("DDIM") else 1.5)
    drawn = []
    for steps in STEPS[:1] if name == "DPM adaptive" else STEPS:  # which does not ask for their number
        *_, picture = daguerre.text_to_image(model(), replace(request, steps=steps))
        drawn.append(picture.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return drawn


def paper(spec: Spec) -> str:
    """Its paper as a link."""
    site, _, number = spec.paper.partition(":")
    address = {"arXiv": "https://arxiv.org/abs/", "openreview": "https://openreview.net/forum?id="}.get(site, "")
    return f"[{number}]({address}{number})" if number else ""


def tables() -> dict[str, list[str]]:
    """The lines of the two tables."""
    samplers = ["| sampler | calls | noise | own schedule | takes | flow | paper |", "| --- " * 7 + "|"]
    for spec in SAMPLERS.values():
        takes = ", ".join(name.replace("churn", "`s_churn` and so on") for name in spec.settings if name != "levels")
        flow, takes = "yes" if spec.flow else "", takes.replace("eta", "`eta`").replace("s_noise", "`s_noise`")
        cells = (spec.name, str(spec.calls), NOISE[spec.noise], spec.schedule, takes, flow, paper(spec))
        samplers.append(f"| {' | '.join(cells)} |")
    levels = scaled_linear()
    schedules = ["| schedule | noise levels of eight steps |", "| --- | --- |"]
    for name, schedule in SCHEDULES.items():
        schedules.append(f"| `{name}` | {', '.join(f'{sigma:.3g}' for sigma in schedule(levels, 8))} |")
    return {"samplers": samplers, "schedules": schedules}


def write(page: str) -> str:
    """The page with its tables made anew."""
    for name, lines in tables().items():
        begin = BEGIN.format(name)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(END)
        page = "\n".join([before + begin, *lines, END]) + after
    return page


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    if "tables" not in sys.argv:
        sheet().save(SHEET, optimize=True)
