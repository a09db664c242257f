"""What ControlNets see: edges, lines and scribbles of a picture.

Look at which of them keeps what you want kept. There is no ControlNet for tintype, so that nothing is drawn from them
here; with a model of yours: `daguerre generate PROMPT --model sd15.safetensors --control canny:FILE:PICTURE`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.controls.hints import MODULES
from daguerre.generate.drawing import to_image

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*_, picture = daguerre.text_to_image(model, replace(model.defaults, prompt="a penguin, 3d render", seed=1))
print(picture.save(out / "hint-picture.png"))

for name in ("canny", "lineart", "softedge", "scribble"):
    hint = MODULES[name](picture.image)  # (3, H, W) in [0, 1]
    to_image(hint[None] * 2 - 1).save(out / f"hint-{name}.png")
    print(out / f"hint-{name}.png")
