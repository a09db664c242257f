"""Tiling: a picture that repeats without a seam.

Look at the second picture, four copies of the first: what leaves one edge comes in at the other. The third and fourth
are the same prompt and seed without tiling.
"""

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()

for tiling in ("both", "off"):
    request = replace(model.defaults, prompt="a red heart, glossy gradient", seed=2, tiling=tiling)
    *_, tile = daguerre.text_to_image(model, request)
    print(tile.save(out / f"tiling-{tiling}.png"))
    wall = Image.new("RGB", (256, 256))
    for x, y in ((0, 0), (128, 0), (0, 128), (128, 128)):
        wall.paste(tile.image, (x, y))
    wall.save(out / f"tiling-{tiling}-wall.png")
    print(out / f"tiling-{tiling}-wall.png")
