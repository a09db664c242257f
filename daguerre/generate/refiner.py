"""A second model that takes over for the last steps, such as SDXL's refiner (arXiv:2307.01952, section 2.5)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..diffusion.conditions import ByCall
from ..diffusion.denoiser import Cond, Denoiser, with_negative
from ..families.model import Model
from ..provenance.record import UsedControl
from ..request import Outpaint, RequestError
from ..text.extra_networks import split_networks
from ..text.segments import without_comments
from .controls.regions import Regions
from .controls.style import Style, usual
from .drawing import Control, Drawing, prepared, under
from .tiled_upscale import InTiles, sized


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

    Regions and styles steer it, too. Networks that the prompt names are the first model's alone, and so are controls
    that are made for its network: ControlNets, T2I-Adapters, IP-Adapters, heat maps.
    """

    model: Model
    switch_at: float = 0.8  # 0 = from the first step on, 1 = never

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing with its last steps by the refiner.

        Raises RequestError where the latents are not the same, and for controls that would do nothing beside it.
        """
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
        self._refuse_idle(drawing, done)
        own = tuple(_for_any_network(drawing.steering, usual(first.unet.config)))
        for control in own:
            second = sized(second, control.tile) if isinstance(control, InTiles) else second
        used = UsedControl(kind="refiner", name=second.name, sha256=second.sha256, start=self.switch_at)
        around = drawing.around
        request = replace(drawing.request, count=1)
        said = without_comments(request.prompt) if request.comments else request.prompt
        request = replace(request, prompt=split_networks(said)[0])
        with (
            prepared(second, request, after=drawing.after, crop=drawing.crop) as bare,
            second.on_device("unet"),
            under(replace(bare, spec=drawing.spec, sigmas=drawing.sigmas, steering=own), own) as other,
        ):
            yield replace(
                drawing,
                around=lambda guided: around(HandOver(guided, other.guided(), other.cond, below)),
                controls=(*drawing.controls, used),
            )

    def _refuse_idle(self, drawing: Drawing, done: int) -> None:
        """Raises RequestError for controls that would do nothing, or not do all, where the first model draws `done`
        steps."""
        all_of_them = [one for c in drawing.steering for one in (c.controls if isinstance(c, InTiles) else (c,))]
        if isinstance(drawing.request, Outpaint) and any(isinstance(control, Regions) for control in all_of_them):
            raise RequestError("a refiner does not see regions from window to window; draw on without one of them")
        if not done and any(not isinstance(control, Regions | Style | Refiner) for control in all_of_them):
            told = "controls of the first model's network, and heat maps, do nothing beside it"
            raise RequestError(
                f"the refiner draws every step; {told}: leave them out, or take a switch_at above {self.switch_at:g}"
            )


def _for_any_network(controls: Sequence[Control], features: float) -> Iterator[Control]:
    """Of controls those that are made for no network of their own; `features` is what a style takes by default."""
    for control in controls:
        if isinstance(control, InTiles):
            yield replace(control, controls=tuple(_for_any_network(control.controls, features)))
        elif isinstance(control, Style) and control.features is None:
            yield replace(control, features=features)  # as the record tells it
        elif isinstance(control, Regions | Style):
            yield control
