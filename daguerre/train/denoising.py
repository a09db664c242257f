"""The loop's recipe for all that trains a denoiser. From scratch, full, LoRA, a new word: they differ in `trained`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser
from .batch import Batch, Batches
from .objective import DenoisingObjective, noise, noise_levels
from .randomness import normal, uniform

Draw = Callable[[Path], None]  # sample pictures of what is trained into a PNG
HELD_OUT = 0.05, 0.25, 0.5, 0.75, 0.95  # places on the noise ladder, 1 is pure noise, where held-out losses are taken


@dataclass(frozen=True, kw_only=True)
class DenoisingRecipe:
    """`denoise` computes with what `trained` holds; `batch` is the size of a whole batch."""

    trained: nn.Module
    denoise: Denoiser
    batches: Batches
    objective: DenoisingObjective
    batch: int
    seed: int
    draw: Draw
    held: Callable[[], Sequence[Batch]] | None = None  # pictures that are not trained on
    before: Callable[[int, range], None] | None = None  # told of the step and the places, before each loss

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        if self.before:
            self.before(step, part)
        data, o = self.batches(step, part), self.objective.o
        # One draw per stratum: the same distribution as independent draws, with less noise in the gradient.
        u = (torch.tensor(part) + uniform(self.seed, "timestep", step, part)) / self.batch
        errors = self._errors(data, u, step, part, noise(o, self.seed, step, part, data.x0))
        return (errors * data.weight).mean(), {}

    def _errors(self, data: Batch, u: Tensor, step: int, part: range, drawn: Tensor) -> Tensor:
        o, device, shape = self.objective.o, data.x0.device, tuple(data.x0.shape[1:])
        sigma = noise_levels(o, self.objective.levels, u).to(device)
        extra = normal(self.seed, "perturbation", step, part, shape).to(device) if o.input_perturbation else None
        return self.objective(self.denoise, data.x0, data.cond, drawn.to(device), sigma, data.mask, extra)

    def held_out(self) -> dict[str, float]:
        """The plain loss of held-out pictures by place on the noise ladder, with the same noise every time."""
        if self.held is None:
            return {}
        plain = replace(self.objective.o, weighting="plain", loss="l2", timesteps="uniform", first=0.0, last=1.0)
        objective = DenoisingObjective(plain, self.objective.prediction, self.objective.levels)
        self.trained.eval()
        batches = self.held()
        losses = {f"{place:g}": self._held_out(objective, batches, place) for place in HELD_OUT}
        self.trained.train()
        return losses

    def _held_out(self, objective: DenoisingObjective, batches: Sequence[Batch], place: float) -> float:
        errors = []
        for k, held in enumerate(batches):
            n = len(held.x0)
            drawn = normal(0, "held out", k, range(n), tuple(held.x0.shape[1:])).to(held.x0.device)
            sigma = noise_levels(objective.o, objective.levels, torch.full((n,), place)).to(drawn.device)
            errors.append(objective(self.denoise, held.x0, held.cond, drawn, sigma, held.mask))
        return torch.cat(errors).mean().item()

    def sample(self, path: Path) -> None:
        self.trained.eval()
        self.draw(path)
        self.trained.train()
