"""Many pictures of one wish: grids over any field, prompt matrices, prompts from files, travels and films."""

from .animation import animated, film
from .cells import Begun, Done, draw_cells
from .job import Job, Setup
from .matrix import plan_matrix
from .plan import Plan, plan_grid
from .prompt_file import read_prompts
from .sheet import Look, compose, compose_sheets
from .travel import plan_travel

__all__ = [
    "Begun",
    "Done",
    "Job",
    "Look",
    "Plan",
    "Setup",
    "animated",
    "compose",
    "compose_sheets",
    "draw_cells",
    "film",
    "plan_grid",
    "plan_matrix",
    "plan_travel",
    "read_prompts",
]
