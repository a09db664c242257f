"""Heat maps: which word of the prompt drew what.

Look at where the bright places of each word are. It is cross-attention, averaged over all steps (arXiv:2210.04885),
and drawing is not changed by being watched.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
maps = daguerre.HeatMaps(("red", "apple", "render"))
request = replace(model.defaults, prompt="a red apple, 3d render", seed=1)
*_, picture = daguerre.text_to_image(model, request, controls=[maps])
print(picture.save(out / "heat-picture.png"))

for word in maps.words:
    maps.overlay(word, picture.image).save(out / f"heat-{word}.png")
    print(out / f"heat-{word}.png")
