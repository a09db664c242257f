"""Grid: any field of a request from left to right, another from top to bottom.

Look at what more steps are worth at each CFG scale. Cells are kept: run again with more values, and only what is
missing is drawn.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.explore import Done, Job, compose, draw_cells, plan_grid

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
job = Job(replace(model.defaults, prompt="a strawberry, 3d render", seed=1))
plan = plan_grid(job, x="cfg_scale: 1, 4, 10", y="steps: 4, 8, 16")

done = [event for event in draw_cells(plan.jobs, lambda setup: model, out / "cells") if isinstance(event, Done)]
paths = {one.index: one.path for one in done}
compose(plan, [paths[i] for i in range(len(plan.jobs))]).save(out / "grid.png")
print(*paths.values(), out / "grid.png", sep="\n")
