"""Seed travel: the way from one seed to another, as an animation.

Look at how one picture becomes the other: between them is a noise that belongs to neither. With `prompts=[...]` the
prompt changes on the way, too.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.explore import Job, animated, plan_travel

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
out.mkdir(parents=True, exist_ok=True)
model = daguerre.load_model()
start = Job(replace(model.defaults, prompt="a strawberry, 3d render", seed=1))

frames = []
for job in plan_travel(start, seeds=[2], prompts=["a sunflower, 3d render"], frames=7):
    *_, picture = daguerre.text_to_image(model, job.request)
    frames.append(picture.image)
there_and_back = [*frames, *frames[-2:0:-1]]
(out / "travel.webp").write_bytes(animated(there_and_back, [150] * len(there_and_back), "webp"))
print(out / "travel.webp")
