"""Text to image: one prompt, four seeds.

Look at what stays from seed to seed, the thing and its style, and what does not. `daguerre show` and `daguerre
reproduce` read from each PNG how it was made.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
request = replace(model.defaults, prompt="a sunflower, 3d render", seed=1, count=4)

for event in daguerre.text_to_image(model, request):
    if isinstance(event, daguerre.Picture):
        print(event.save(out / f"sunflower-{event.record.seed}.png"))
