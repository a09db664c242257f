"""Prompt matrix: a prompt with and without each of its parts.

Look at which words matter: parts that are struck out in the labels are not in the prompt of their row or column.
"""

import sys
from dataclasses import replace
from pathlib import Path

import daguerre
from daguerre.generate.explore import Done, Job, compose, draw_cells, plan_matrix

out = Path(sys.argv[1] if sys.argv[1:] else "outputs")
model = daguerre.load_model()
plan = plan_matrix(Job(replace(model.defaults, prompt="an apple|green|3d render", seed=1)))

done = [event for event in draw_cells(plan.jobs, lambda setup: model, out / "cells") if isinstance(event, Done)]
paths = {one.index: one.path for one in done}
compose(plan, [paths[i] for i in range(len(plan.jobs))]).save(out / "matrix.png")
print(*paths.values(), out / "matrix.png", sep="\n")
