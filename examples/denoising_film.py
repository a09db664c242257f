"""Denoising film: what each step takes the picture for, as an animation.

Look at when shape and color are decided, in the first steps, and what the last ones are for.
"""

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

import daguerre
from daguerre.generate.explore import animated, film

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*steps, picture = film(model, replace(model.defaults, prompt="a penguin, 3d render", seed=1))
print(picture.save(out / "film-end.png"))

frames: list[Image.Image] = [*steps, picture.image]
(out / "film.webp").write_bytes(animated(frames, [120] * len(steps) + [1500], "webp"))
print(out / "film.webp")
