"""Inpaint: a part of a picture drawn anew; all other pixels stay to the bit.

Look at the three ways: what is under a mask, the masked part alone at full size (`only_masked`), and a mask of grays,
which say how much may change (differential).
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
usual = {**model.family.defaults, "seed": 1}
*_, given = daguerre.text_to_image(model, daguerre.TextToImage(prompt="a sunflower, 3d render", **usual))

mask = Image.new("L", given.image.size)
ImageDraw.Draw(mask).rectangle((64, 0, 128, 128), 255)
fade = Image.linear_gradient("L").rotate(90).resize(given.image.size)
ways = {
    "masked": (mask, {"strength": 1.0, "fill": "latent noise"}),
    "only-masked": (mask, {"strength": 0.8, "only_masked": True, "padding": 0}),
    "differential": (fade, {"strength": 1.0, "differential": True}),
}
print(given.save(out / "inpaint-given.png"))
for name, (white, how) in ways.items():
    request = daguerre.Inpaint(prompt="a red apple, 3d render", mask_blur=2, **{**usual, **how})
    *_, picture = daguerre.inpaint(model, request, given.image, white)
    print(picture.save(out / f"inpaint-{name}.png"))
