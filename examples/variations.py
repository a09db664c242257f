"""Variations: pictures near one that you like.

Look at how the second picture turns into the last: the noise of one seed goes over into that of another, by 0, 0.2,
0.4 and 0.6.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
liked = replace(model.defaults, prompt="a mushroom, 3d render", seed=1, variation_seed=7)

for strength in (0, 0.2, 0.4, 0.6):
    *_, picture = daguerre.text_to_image(model, replace(liked, variation_strength=strength))
    print(picture.save(out / f"variation-{strength}.png"))
