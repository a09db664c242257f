"""Regional prompts: each part of a picture by a prompt of its own.

Look at the second picture: left and right have their own prompts, so that neither takes color or shape from the other,
as happens where one prompt names both (the first).
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.controls import Region, Regions

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
regions = Regions(
    regions=(
        Region(mask="left", prompt="a strawberry, 3d render"),
        Region(mask="right", prompt="a sunflower, 3d render"),
    )
)
request = replace(model.defaults, prompt="a strawberry and a sunflower, 3d render", seed=1, width=256, height=128)
for name, controls in {"off": [], "on": [regions]}.items():
    *_, picture = daguerre.text_to_image(model, request, controls)
    print(picture.save(out / f"regions-{name}.png"))
