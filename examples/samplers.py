"""Samplers: five ways from the same noise to a picture, in few steps.

Look at which are done after 8 steps: UniPC needs more at this CFG scale. Heun calls the network twice a step, and
Euler a adds noise on its way. docs/samplers.md shows all of them.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
request = replace(model.defaults, prompt="a strawberry, 3d render", seed=1, steps=8)

for sampler in ("Euler", "Euler a", "Heun", "DPM++ 2M Karras", "UniPC"):
    *_, picture = daguerre.text_to_image(model, replace(request, sampler=sampler))
    print(picture.save(out / f"sampler-{sampler.replace(' ', '-')}.png"))
