"""Tiled upscale: enlarged, and drawn over in tiles of the size that the model knows.

Look for tile borders, there are none: all tiles are joined within each step. Each tile is drawn to the same prompt, so
that high strengths draw it many times.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*_, small = daguerre.text_to_image(model, replace(model.defaults, prompt="a lady beetle, 3d render", seed=1))

usual = {**model.family.defaults, "width": 0, "height": 0}  # the size follows from the given picture

for strength in (0.2, 0.6):
    request = daguerre.TiledUpscale(prompt="a lady beetle, 3d render", strength=strength, seed=1, **usual)
    *_, picture = daguerre.tiled_upscale(model, request, small.image)
    print(picture.save(out / f"tiled-{strength}.png"))
