"""Flags for more than one pass or model: the picture drawn over enlarged, and the last steps by a refiner."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from ..request import Hires, TextToImage
from .flags import ModelFlags, refuse_alone, width_and_height
from .kinds import HIRES, REFINER
from .models import find

if TYPE_CHECKING:
    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Control, Picture, Task


@Parameter(name="*", group=HIRES)
@dataclass(frozen=True, kw_only=True)
class HiresFlags:
    """A second pass over the picture, enlarged; each of these but the first asks for one, too.

    Parameters
    ----------
    hires
        How many times as large, such as 2.
    hires_size
        WIDTHxHEIGHT in pixels, in place of that.
    hires_steps
        As many as in the first pass by default.
    hires_strength
        0 to 1: how far the second pass goes from the first.
    hires_upscaler
        Latent, "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)", "Latent (nearest)", "Latent
        (nearest-exact)", Lanczos, Nearest, built-in, or an upscaler's file.
    hires_sampler
        That of the first pass by default, as are the others.
    hires_schedule
        Noise levels.
    hires_prompt
        What to draw then. The LoRAs that it names stand in for those of the first prompt.
    hires_negative
        What to keep out then.
    """

    hires: float | None = None
    hires_size: str | None = None
    hires_steps: int | None = None
    hires_strength: float | None = None
    hires_upscaler: str | None = None
    hires_sampler: str | None = None
    hires_schedule: str | None = None
    hires_prompt: str | None = None
    hires_negative: str | None = None

    def given(self) -> dict[str, Any]:
        """The field `hires` of a `TextToImage`, where a second pass is asked for."""
        values: dict[str, Any] = {
            "scale": self.hires,
            "steps": self.hires_steps,
            "strength": self.hires_strength,
            "upscaler": self.hires_upscaler,
            "sampler": self.hires_sampler,
            "schedule": self.hires_schedule,
            "prompt": self.hires_prompt,
            "negative_prompt": self.hires_negative,
        }
        if self.hires_size is not None:
            values |= width_and_height("--hires-size", self.hires_size)
        values = {name: value for name, value in values.items() if value is not None}
        return {"hires": Hires(**values)} if values else {}


@Parameter(name="*", group=REFINER)
@dataclass(frozen=True, kw_only=True)
class RefinerFlags:
    """A second model for the last steps.

    Parameters
    ----------
    refiner
        A model in the latents of the first one, such as SDXL's refiner. Regions and styles steer it, too; --control is
        of the first model alone.
    switch_at
        The share of the steps after which it takes over; 0.8 by default. With --control it must be above 0.
    """

    refiner: str | None = None
    switch_at: float | None = None

    def told(self) -> str:
        """What changes with these flags and with the model's file; "" where there is none."""
        if self.refiner is None:
            return ""
        from ..files.reader import open_checkpoint

        return f"{self} {open_checkpoint(find(self.refiner).path).sha256}"

    def around(self, task: "Task", first: ModelFlags) -> "Task":
        """The task with the refiner, on the first model's device, where there is one; it is loaded when it draws."""
        refuse_alone("--switch-at", self.switch_at, "--refiner", self.refiner)
        if self.refiner is None:
            return task
        from ..generate.refiner import Refiner

        find(self.refiner)  # says what is wrong before the first model is loaded
        flags = replace(first, model=self.refiner, vae=None, base=None, family=None, prediction=None)
        loaded, switch_at = cache(flags.load), 0.8 if self.switch_at is None else self.switch_at

        def refined(
            model: "Model", request: TextToImage, controls: "Sequence[Control]" = (), **given: Any
        ) -> "Iterator[Step | Picture]":
            return task(model, request, controls=(*controls, Refiner(loaded(), switch_at)), **given)

        return refined


ONE_PASS, ALONE = HiresFlags(), RefinerFlags()
