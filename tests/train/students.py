"""Toy teachers and their data, for distillation."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from daguerre.diffusion.denoiser import Cond
from daguerre.families.model import Model
from daguerre.train.batch import Batch
from daguerre.train.randomness import generator
from tests.toy import toy

CAPTIONS = ("a red apple", "a dog face", "a rocket", "")
KINDS = {"epsilon": ("sd1", "epsilon"), "v": ("tintype", "v"), "vector": ("sdxl", "v")}  # the last as SDXL is built


def teacher(kind: str = "v") -> Model:
    """Guided enough that it shows, and small."""
    family, prediction = KINDS[kind]
    model = toy(family, prediction=prediction)
    row = replace(model.family, defaults={**model.family.defaults, "width": 64, "height": 64, "cfg_scale": 2.0})
    return replace(model, family=row)


class Pictures:
    """Batches of four captions and random latents of 8 x 8."""

    def __init__(self, model: Model):
        self.conds = [model.encode(replace(model.defaults, prompt=caption)) for caption in CAPTIONS]
        self.x0 = torch.randn(4, 4, 8, 8, generator=generator(0, "latents"))

    def __call__(self, step: int, part: range) -> Batch:
        order = torch.randperm(4, generator=generator(0, "order", step))[list(part)]
        conds = [self.conds[i][0] for i in order]
        weight = 1.0 + order.float()
        return Batch(x0=self.x0[order], cond=stacked(conds), weight=weight, captions=[CAPTIONS[i] for i in order])

    def empty(self, count: int) -> Cond:
        return stacked([self.conds[0][1]] * count)


def stacked(conds: list[Cond]) -> Cond:
    vectors = [cond.vector for cond in conds if cond.vector is not None]
    return Cond(torch.cat([cond.tokens for cond in conds]), torch.cat(vectors) if vectors else None)


def draw(model: Model, path: Path) -> None:
    """In place of pictures, the sum of the weights."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(str(sum(p.sum().item() for p in model.unet.parameters())))


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]
