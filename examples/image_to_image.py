"""Image to image: a doodle drawn over, further and further.

Look at the strength: at 0.4 it is still the doodle, at 0.6 its shape holds under a new surface, at 0.85 little more
than its colors is left.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
out.mkdir(parents=True, exist_ok=True)
model = daguerre.load_model()

doodle = Image.new("RGB", (128, 128), "white")
pen = ImageDraw.Draw(doodle)
pen.ellipse((24, 30, 104, 112), "#d02020")
pen.line((64, 34, 70, 12), "#604020", 5)
pen.ellipse((70, 10, 96, 24), "#40a030")
doodle.save(out / "doodle.png")
print(out / "doodle.png")

for strength in (0.4, 0.6, 0.85):
    request = daguerre.ImageToImage(prompt="a red apple, 3d render", strength=strength, seed=3, **model.family.defaults)
    *_, picture = daguerre.image_to_image(model, request, doodle)
    print(picture.save(out / f"doodle-{strength}.png"))
