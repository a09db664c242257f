"""Outpaint: half a picture, and what may be beyond its edges.

Look for the seam, which is in the middle. The given half stays to the bit but for a few columns beside the seam.
"""

import sys
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
usual = {**model.family.defaults, "seed": 1}
*_, whole = daguerre.text_to_image(model, daguerre.TextToImage(prompt="a sunflower, 3d render", **usual))
half = whole.image.crop((0, 0, 64, 128))
out.mkdir(parents=True, exist_ok=True)
out.mkdir(parents=True, exist_ok=True)
half.save(out / "outpaint-given.png")
print(out / "outpaint-given.png")

for seed in (1, 2, 3):
    request = daguerre.Outpaint(prompt="a sunflower, 3d render", right=64, strength=1.0, **{**usual, "seed": seed})
    *_, picture = daguerre.outpaint(model, request, half)
    print(picture.save(out / f"outpaint-{seed}.png"))
