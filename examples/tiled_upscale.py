"""Tiled upscale: enlarged, and drawn over in tiles of the size that the model knows.

Look for tile borders, there are none: all tiles are joined within each step. Each tile is drawn to the same prompt, so
that high strengths draw it many times.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.cli.files import save_picture
from daguerre.cli.models import resolve
from daguerre.generate.tiled_upscale import tiled_upscale
from daguerre.request import TiledUpscale

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model(resolve("tintype"))
*_, small = daguerre.text_to_image(model, replace(model.defaults, prompt="a lady beetle, 3d render", seed=1))

usual = {**model.family.defaults, "width": 0, "height": 0}  # the size follows from the given picture

for strength in (0.2, 0.6):
    request = TiledUpscale(prompt="a lady beetle, 3d render", strength=strength, seed=1, **usual)
    *_, picture = tiled_upscale(model, request, small.image)
    print(save_picture(picture, out / f"tiled-{strength}.png"))
