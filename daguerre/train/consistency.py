"""Latent consistency distillation (arXiv:2310.04378): from every place on a way of the teacher's from noise to picture,
the student learns to see where the way ends."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.denoiser import Cond, spread
from ..diffusion.guidance import ClassifierFree
from ..families.model import Model
from . import checkpoint
from .batch import Batches
from .config import Consistency
from .loop import update_average
from .randomness import normal
from .teacher import DrawWith, guidance_of, indices, rungs, student_of

STEPS = 4  # that the student draws in unless told otherwise
DATA_SPREAD, TIME_SCALE = 0.5, 10.0


def boundary(t: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the input and of the network's estimate make up the answer at timesteps (B,); at 0 all is the input.

    arXiv:2310.04378, appendix B.2; from timestep 1 on the input counts for less than 0.3 %, so samplers leave it out.
    """
    scaled = t * TIME_SCALE
    return DATA_SPREAD**2 / (scaled**2 + DATA_SPREAD**2), scaled / (scaled**2 + DATA_SPREAD**2).sqrt()


class ConsistencyRecipe:
    """The loop's recipe; its second player is the target network, a moving average of the student."""

    def __init__(self, model: Model, batches: Batches, c: Consistency, seed: int, draw: DrawWith):
        self.teacher, self.batches, self.c, self.seed, self.draw = model, batches, c, seed, draw
        self.student = student_of(model, STEPS)
        self.trained = self.student.unet
        self.target = replace(self.student, unet=deepcopy(self.trained).requires_grad_(requires_grad=False))
        # From stop to stop the teacher's solver takes one step; the last leads to where no noise is left.
        self.timesteps = torch.cat([rungs(model.levels, (c.stops,)), torch.zeros(1).long()])
        self.sigmas = torch.cat([model.levels.sigmas[self.timesteps[:-1]], torch.zeros(1)])
        self.scale = guidance_of(model, c.cfg_scale)

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        """How far apart student and target see the ends of a way from two stops that follow each other on it."""
        x0, cond, weight, *_ = self.batches(step, part)
        stop = indices(self.c.stops, self.seed, "stop", step, part)
        here, there = self.sigmas[stop].to(x0), self.sigmas[stop + 1].to(x0)
        x = x0 + spread(here, x0) * normal(self.seed, "student", step, part, x0.shape[1:]).to(x0)
        with torch.no_grad():
            guided = ClassifierFree(self.teacher.denoiser(), self.batches.empty(len(part)), self.scale)
            estimate = guided(x, here, cond)
            nearer = estimate + spread(there / here, x) * (x - estimate)  # DDIM
            goal = _end(self.target, nearer, there, self.timesteps[stop + 1], cond)
        difference = _end(self.student, x, here, self.timesteps[stop], cond) - goal
        c = self.c.huber
        error = ((difference**2 + c**2).sqrt() - c).mean(dim=(1, 2, 3))
        return (weight * error).mean(), {}

    def after(self, step: int) -> None:
        update_average(self.target.unet.state_dict(), self.trained, self.c.target_ema)

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        return {"target": self.target.unet.state_dict()}

    def restore(self, parts: checkpoint.Parts) -> None:
        self.target.unet.load_state_dict(parts["target"])

    def sample(self, path: Path) -> None:
        self.draw(self.student, path)


def _end(model: Model, x: Tensor, sigma: Tensor, t: Tensor, cond: Cond) -> Tensor:
    """Where the model sees the way of `x` end."""
    skip, out = (spread(share.to(x), x) for share in boundary(t))
    return skip * x / (spread(sigma, x) ** 2 + 1).sqrt() + out * model.denoiser()(x, sigma, cond)
