"""Prompts from a file: one a line, with what that line wants otherwise.

Look at the three ways to write a line: words alone, A1111's flags, JSON. What a line does not say is as the base says.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.explore import Job, read_prompts

LINES = """
a strawberry, 3d render
--prompt a sunflower, flat modern --steps 12 --seed 7
{"prompt": "a mushroom, 3d render", "sampler": "Heun", "steps": 8, "guides": "freeu"}
"""
out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()

for i, job in enumerate(read_prompts(LINES, Job(replace(model.defaults, seed=1)))):
    *_, picture = daguerre.text_to_image(model, job.request)
    print(picture.save(out / f"line-{i + 1}.png"))
