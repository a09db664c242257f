"""Style transfer: the look of one picture, the content of a prompt, without any training.

Look at the last picture, which has the content of the second and takes color and line from the first: while it is
drawn, its attention sees the reference's (StyleAligned, arXiv:2312.02133).
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.controls import Style

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
*_, reference = daguerre.text_to_image(model, replace(model.defaults, prompt="a strawberry, flat modern", seed=1))
print(reference.save(out / "style-reference.png"))

request = replace(model.defaults, prompt="a mushroom", seed=2)
for name, controls in {"off": [], "on": [Style(image=reference.image)]}.items():
    *_, picture = daguerre.text_to_image(model, request, controls)
    print(picture.save(out / f"style-{name}.png"))
