"""A second model that takes over for the last steps, such as SDXL's refiner (arXiv:2307.01952, section 2.5)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..diffusion.conditions import ByCall
from ..diffusion.denoiser import Cond, Denoiser, with_negative
from ..families.model import Model
from ..provenance.record import UsedControl
from ..request import RequestError
from ..text.extra_networks import split_networks
from ..text.segments import without_comments
from .drawing import Drawing, prepared


@dataclass
class HandOver:
    """Hands calls below a noise level to another denoiser with its own condition; make one for each picture."""

    first: Denoiser
    second: Denoiser
    second_cond: Cond
    below: float
    calls: int = field(default=0, init=False)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        denoise, own = self._next(sigma, cond)
        return denoise(x, sigma, own)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """As `denoiser.with_negative`, for CFG++."""
        denoise, own = self._next(sigma, cond)
        return with_negative(denoise, x, sigma, own)

    def _next(self, sigma: Tensor, cond: Cond) -> tuple[Denoiser, Cond]:
        self.calls += 1
        if sigma.max().item() > self.below:
            return self.first, cond
        if isinstance(self.second, ByCall):
            self.second.calls = self.calls - 1  # prompts that change have changed in the meantime
        return self.second, self.second_cond


@dataclass(frozen=True)
class Refiner:
    """A control: `model` draws the steps from a share of them on, in the latents of the first model.

    Networks that the prompt names are the first model's alone.
    """

    model: Model
    switch_at: float = 0.8  # 0 = from the first step on, 1 = never

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing with its last steps by the refiner. Raises RequestError where the latents are not the same."""
        if not 0 <= self.switch_at <= 1:
            raise RequestError(f"switch_at is {self.switch_at}; it must be a number from 0 to 1")
        first, second = drawing.model, self.model
        for name, values in {
            "latent channels": (first.unet.config.channels_out, second.unet.config.channels_out),
            "scale of latents": (first.vae.config.scale, second.vae.config.scale),
        }.items():
            if values[0] != values[1]:
                told = f"{name} {values[0]} of {first.name}, {values[1]} of {second.name}"
                raise RequestError(f"the refiner draws in other latents than the model: {told}")
        steps = len(drawing.sigmas) - 1
        done = min(round(self.switch_at * steps), steps)
        # Halfway to the level before, as samplers call at levels in between and slightly off.
        low, high = drawing.sigmas[done].item(), drawing.sigmas[max(0, done - 1)].item()
        below = float("inf") if done == 0 else (low * high) ** 0.5
        used = UsedControl(kind="refiner", name=second.name, sha256=second.sha256, start=self.switch_at)
        around = drawing.around
        request = replace(drawing.request, count=1)
        said = without_comments(request.prompt) if request.comments else request.prompt
        request = replace(request, prompt=split_networks(said)[0])
        with prepared(second, request, after=drawing.after) as other, second.on_device("unet"):
            other = replace(other, spec=drawing.spec, sigmas=drawing.sigmas)
            yield replace(
                drawing,
                around=lambda guided: around(HandOver(guided, other.guided(), other.cond, below)),
                controls=(*drawing.controls, used),
            )
