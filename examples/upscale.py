"""Upscale: four times as large by the built-in network, which knows drawings.

Look at edges: Lanczos leaves them soft or rings beside them. `daguerre upscale --upscaler FILE` takes any file of
ESRGAN's family instead.
"""

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*_, picture = daguerre.text_to_image(model, replace(model.defaults, prompt="a lady beetle, 3d render", seed=1))

out.mkdir(parents=True, exist_ok=True)
picture.image.resize((512, 512), Image.Resampling.LANCZOS).save(out / "upscale-lanczos.png")
print(out / "upscale-lanczos.png")
print(daguerre.upscaled(picture, 4, daguerre.load_upscaler()).save(out / "upscale-network.png"))
