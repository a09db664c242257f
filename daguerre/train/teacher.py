"""What distillation has of its teacher: the student's beginning, and whole ways from noise to picture."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.denoiser import Cond, VarianceExploding
from ..diffusion.guidance import ClassifierFree
from ..diffusion.samplers import find_sampler
from ..diffusion.schedule import NoiseLevels, ended, karras
from ..families.catalog import distilled
from ..families.model import Model
from .batch import Batches
from .randomness import normal, uniform

DrawWith = Callable[[Model, Path], None]  # sample pictures of a model into a PNG
SOLVER = "DPM++ 2M"
GROUP = 8  # pictures drawn at once: always the same together, since the size of a batch can change the last bits
NEAR = 0.08  # in log sigma: how close two of the solver's noise levels may be


def student_of(model: Model, steps: int) -> Model:
    """The model with a copy of its U-Net to be trained, in float32, and the defaults of a network of few steps."""
    unet = deepcopy(model.unet).float().requires_grad_(requires_grad=True)
    family = distilled(model.family, steps, sampler="LCM")
    return replace(model, unet=unet, family=family, sha256="", low_memory=False, reload={})


def guidance_of(model: Model, cfg_scale: float | None) -> float:
    """The teacher's guidance: as told, or as the model likes it."""
    return model.defaults.cfg_scale if cfg_scale is None else cfg_scale


def rungs(levels: NoiseLevels, counts: Sequence[int]) -> Tensor:
    """The timesteps that samplings in so many steps visit on the schedule `turbo`, one count's after the other's."""
    count = len(levels.sigmas)
    lines = [torch.linspace(count, 0, n + 1, dtype=torch.float64)[:-1].round().long() - 1 for n in counts]
    return torch.cat(lines)


def indices(count: int, seed: int, what: str, step: int, part: range) -> Tensor:
    """Random whole numbers below `count`, one per picture."""
    return (uniform(seed, what, step, part) * count).long().clamp(max=count - 1)  # the product may round up


class Way(NamedTuple):
    """Some pictures of the teacher's and how they came to be."""

    states: Tensor  # (R, B, C, H, W): noisy latents at each rung, in the scale of x0 + sigma * noise
    x0: Tensor  # (B, C, H, W): where they lead
    cond: Cond


class Ways:
    """The teacher's deterministic ways from noise to picture (arXiv:2311.18828, section 3.3), for captions of the data.

    A function of the seed, the number of a batch and places in it. Drawn when first asked for, then kept in memory.
    """

    def __init__(self, model: Model, batches: Batches, timesteps: Tensor, steps: int, scale: float, seed: int):
        self.model, self.batches, self.scale, self.seed = model, batches, scale, seed
        self.wanted = model.levels.sigmas[timesteps]
        self.sigmas = _through(self.wanted, model.levels, steps)
        self.drawn: dict[tuple[int, range], Way] = {}

    def __call__(self, number: int, part: range) -> Way:
        if (number, part) not in self.drawn:
            self.drawn[number, part] = self._draw(number, part)
        return self.drawn[number, part]

    @torch.no_grad()
    def _draw(self, number: int, part: range) -> Way:
        batch, (spec, _), process = self.batches(number, part), find_sampler(SOLVER), VarianceExploding()
        noise = normal(self.seed, "way", number, part, batch.x0.shape[1:]).to(batch.x0)
        denoise = ClassifierFree(self.model.denoiser(), self.batches.empty(len(part)), self.scale)
        x = spec.start(noise, self.sigmas[0], process)
        states = {self.sigmas[0].item(): x}
        for step in spec.sample(denoise, x, self.sigmas, batch.cond, process, lambda *levels: noise):
            x = states[self.sigmas[step.i + 1].item()] = step.x
        return Way(torch.stack([states[sigma] for sigma in self.wanted.tolist()]), x, batch.cond)


def _through(wanted: Tensor, levels: NoiseLevels, steps: int) -> Tensor:
    """About `steps` noise levels down to 0 as `karras` spaces them, with all of `wanted` among them."""
    others = [s for s in karras(levels, steps)[:-1] if ((s / wanted).log().abs() > NEAR).all()]
    return ended(torch.tensor(sorted({*map(float, others), *wanted.tolist()}, reverse=True)))
