"""What all tasks share: a request made ready for a model, and the way from noise to a picture with its record."""

import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ..diffusion.conditions import ByCall, Conditions
from ..diffusion.denoiser import Cond, Denoiser, NoiseSource, Process, Step, VarianceExploding
from ..diffusion.noise import Source, brownian, brownian_tree, centered, fresh, initial, spherical
from ..diffusion.prediction import OnLadder
from ..diffusion.samplers import Spec, find_sampler
from ..diffusion.schedule import TABLES, NoiseLevels, find_schedule
from ..families.model import Model
from ..files.durable import durable_bytes
from ..provenance import png
from ..provenance.record import Record, UsedControl, UsedPicture, pixel_sha256
from ..request import MAX_SEED, RANDOM_SEED, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage
from ..runtime.device import exact, processor
from ..runtime.precision import require_finite
from .canvas import empty_canvas
from .guides import Guides
from .tiling import tiled
from .window import Given, Window


@dataclass(frozen=True)
class Picture:
    """A finished picture: the last thing that is yielded for each seed."""

    image: Image.Image  # RGB
    record: Record  # all that is needed to draw it again
    seconds: float  # from its first step to its pixels

    def save(self, path: Path | str) -> Path:
        """Writes a PNG with the record in it, whole or not at all, in place of what is there.

        Raises ValueError for a name of another format, which would lose the record: that is `image.save`.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path}: the record of how it was made needs a PNG; for others, save picture.image")
        durable_bytes(path, png.encode(self.image, self.record))
        return path


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A request made ready for a model. Tasks and controls change it by `dataclasses.replace`."""

    model: Model  # whose edges meet where the request says so
    asked: TextToImage
    request: TextToImage  # with every choice made
    spec: Spec
    sigmas: Tensor  # the noise levels to walk down
    conditions: tuple[Conditions, ...]  # over the sampler's calls
    unguided: OnLadder  # the network as a Denoiser; what steers the network from beside it changes this
    after: int = 0  # calls of the sampler in the pass before this one, where there was one
    part: Window | None = None  # what the network sees first, where it sees the picture part by part
    given: Given | None = None  # what is drawn over
    crop: Window | None = None  # what is drawn of a larger picture, where the request's size is that of this part
    around: Callable[[Denoiser], Denoiser] = lambda guided: guided  # what encloses guidance, such as a mask
    controls: tuple[UsedControl, ...] = ()  # that are attached
    steering: "tuple[Control, ...]" = ()  # all that the task was given, attached or about to be
    pictures: tuple[UsedPicture, ...] = ()  # that were given along with the request
    process: Process = field(default_factory=VarianceExploding)

    @property
    def cond(self) -> Cond:
        """The first positive condition of a drawing's beginning."""
        return self.conditions[0].positive[0][0]

    @property
    def window(self) -> Window:
        """What the network sees first of the picture; hints and masks are of the whole."""
        return self.part or Window.whole(self.request.width, self.request.height)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of latents: channels, height, width."""
        factor = self.model.vae.config.factor
        return self.model.unet.config.channels_out, self.request.height // factor, self.request.width // factor

    def seed(self, i: int) -> int:
        """Of picture i. Seeds follow one another, but where variations of one seed are asked for."""
        return self.request.seed + (0 if self.request.variation_strength else i)

    @property
    def source(self) -> Source:
        """Whose random numbers are drawn, always on the CPU."""
        return "nv" if self.request.noise == "nv" else "cpu"

    def noise(self, i: int) -> Tensor:
        """The noise (1, C, H, W) that picture i begins with."""
        request, shape, factor = self.request, self.shape, self.model.vae.config.factor
        if request.seed_width:
            shape = shape[0], request.seed_height // factor, request.seed_width // factor
        noise = initial([self.seed(i)], shape, self.source)
        if request.variation_strength:
            other = initial([request.variation_seed + i], shape, self.source)
            noise = spherical(request.variation_strength, noise, other)
        if shape != self.shape:
            noise = centered(noise, initial([self.seed(i)], self.shape, self.source))
        return noise.to(self.model.device)

    def start(self, i: int, latents: Tensor | None = None) -> Tensor:
        """The state (1, C, H, W) at the first noise level: noise alone, or latents in noise."""
        noise, sigma = self.noise(i), self.sigmas[0]
        if latents is None:
            return self.spec.start(noise, sigma, self.process)
        if isinstance(self.request, ImageToImage):
            noise = noise * self.request.noise_multiplier
        return self.process.alpha(sigma) * latents + sigma * noise

    @cached_property
    def guides(self) -> Guides:
        """The guides of the request. Raises RequestError where the model is not made for them."""
        return Guides(self.model, self.request)

    def guided(self) -> Denoiser:
        """The network, guided as the request says; made anew for each picture."""
        steering = self.guides.begin(self.unguided, self.sigmas, self._empty)
        scale, batched = self.request.cfg_scale, not self.model.low_memory
        guided = [steering.around(c.guidance(steering.inner, scale, batched=batched)) for c in self.conditions]
        turns = [(c.last, denoise, c.positive[0][0]) for c, denoise in zip(self.conditions, guided, strict=True)]
        return self.around(ByCall(turns) if len(turns) > 1 else guided[0])

    def _empty(self) -> Cond:
        """The condition of an empty prompt."""
        _, empty = self.model.encode(replace(self.request, prompt="", negative_prompt=""))
        return empty._replace(concat=self.cond.concat)

    def steps(self, i: int, x: Tensor) -> Generator[Step, None, Tensor]:
        """Yields the sampler's steps for picture i from the state x; returns the latents. Raises NumericError."""
        noise = self.noise_source(self.seed(i))
        with self.model.on_device("unet"):
            sample = self.spec.sampler(self.request, self.model.levels)
            for step in sample(self.guided(), x, self.sigmas, self.cond, process=self.process, noise=noise):
                require_finite(step.x, f"step {step.i + 1} of {len(self.sigmas) - 1}")
                x = step.x
                yield step
        return x

    def noise_source(self, seed: int) -> NoiseSource:
        """What the sampler adds within its steps. A1111's tree spans all levels, also where a picture is given."""
        if self.spec.noise == "brownian":
            sigmas = self.sigmas if self.request.noise == "cpu" else spanned(self.spec, self.model.levels, self.request)
            levels = sigmas[sigmas > 0]
            ends = levels.min().item(), levels.max().item()
            if self.request.noise == "cpu":
                return brownian([seed], self.shape, *ends, self.model.device)
            return brownian_tree([seed], self.shape, *ends, self.model.device, self.source)
        return fresh([seed], self.shape, self.model.device, self.source, self.request.ensd)

    def picture(self, i: int, image: Image.Image, begun: float) -> Picture:
        """Picture i with its record; `begun` is what `time.perf_counter` told before its first step."""
        model, request = self.model, self.request
        record = Record(
            request=self.asked,
            seed=self.seed(i),
            noise=self.request.noise,
            index=i,
            sampler=request.sampler,
            schedule=request.schedule,
            family=model.family.name,
            prediction=model.prediction,
            model=model.name,
            model_sha256=model.sha256,
            vae=model.vae_name or None,
            vae_sha256=model.vae_sha256 or None,
            controls=self.controls,
            pictures=self.pictures,
            device=model.device.type,
            processor=processor(model.device),
            dtype=str(model.unet.conv_out.weight.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            mode="low memory" if model.low_memory else "exact",
            pixel_sha256=pixel_sha256(image),
        )
        return Picture(image, record, time.perf_counter() - begun)


class Control(Protocol):
    """What steers a drawing from outside of its prompt: pictures, regions, other networks."""

    def attached(self, drawing: Drawing) -> AbstractContextManager[Drawing]:
        """The drawing under this control, for so long; nothing stays attached to its model."""


@contextmanager
def under(drawing: Drawing, controls: Sequence[Control]) -> Iterator[Drawing]:
    """The drawing under all of these controls, for so long."""
    with ExitStack() as stack:
        for control in controls:
            drawing = stack.enter_context(control.attached(drawing))
        yield drawing


Task = Callable[..., Iterator[Step | Picture]]  # text_to_image and its like: (model, request, controls=...)


@contextmanager
def prepared(
    model: Model,
    request: TextToImage,
    controls: Sequence[Control] = (),
    *,
    after: int = 0,
    part: Window | None = None,
    given: Given | None = None,
    crop: Window | None = None,
) -> Iterator[Drawing]:
    """A request made ready to be drawn, in exact mode: a picture hangs on the model, the request and its seed alone,
    not on what is drawn beside it. `after` counts the sampler's calls in a pass before this one; the others
    are fields of the drawing.

    Raises RequestError for what cannot be drawn.
    """
    asked, request = request, settled(request)
    asked = replace(asked, variation_seed=request.variation_seed)  # which no other part of the record tells
    request = replace(request, schedule=model.family.schedules.get(request.schedule, request.schedule))
    spec, _ = find_sampler(request.sampler)
    model = tiled(model, request)
    with exact():
        drawing = Drawing(
            model=model,
            asked=asked,
            request=request,
            spec=spec,
            sigmas=walked(spec, model.levels, request),
            conditions=model.conditions(request, spec.counted(request.steps), after=after),
            unguided=model.denoiser(),
            after=after,
            part=part,
            given=given,
            crop=crop,
            steering=tuple(controls),
        )
        canvas = empty_canvas(model, drawing.shape)
        with under(on_canvas(drawing, canvas), controls) as drawing:
            yield drawing


def on_canvas(drawing: Drawing, canvas: Tensor | None) -> Drawing:
    """The drawing with other channels (1, C, H, W) beside its latents."""
    return replace(drawing, conditions=tuple(c.beside(canvas) for c in drawing.conditions))


def settled(request: TextToImage) -> TextToImage:
    """The request with every choice made: the seed drawn, names canonical, the sampler's own schedule filled in.

    Raises RequestError for names that are not there, and for what does not go together.
    """
    seed = _seed("seed", request.seed, 1 if request.variation_strength else request.count)
    variation = request.variation_seed
    if request.variation_strength:
        variation = _seed("variation_seed", variation, request.count)
    spec, suffix = find_sampler(request.sampler)
    schedule = find_schedule(request.schedule)
    if schedule == "automatic":
        schedule = suffix or spec.schedule
    if schedule in TABLES and (request.sigma_min or request.sigma_max):
        told = f"schedule {schedule!r} is a list of noise levels with ends of its own"
        raise RequestError(f"{told}; leave out sigma_min and sigma_max, or take another schedule")
    return replace(request, seed=seed, variation_seed=variation, sampler=spec.name, schedule=schedule)


def _seed(name: str, given: int, count: int) -> int:
    """The first of `count` seeds that follow one another, drawn where it is random."""
    seed = secrets.randbelow(MAX_SEED - count + 2) if given == RANDOM_SEED else given
    if seed + count - 1 > MAX_SEED:
        raise RequestError(f"{name} {seed} with count {count} goes beyond the largest seed, {MAX_SEED}")
    return seed


def walked(spec: Spec, levels: NoiseLevels, request: TextToImage) -> Tensor:
    """The noise levels of a request, descending: all of its schedule, or its end where a picture is given.

    That has int(strength * steps) + 1 steps, as in A1111, or with `exact_steps` all of `steps`. Raises RequestError
    where that is the one step there is, whatever the strength, and no mask keeps the rest.
    """
    sigmas, steps = spanned(spec, levels, request), request.steps
    if isinstance(request, ImageToImage):
        if len(sigmas) == 2 and request.strength < 1 and not isinstance(request, Inpaint | Outpaint):
            told = f"in 1 step all of the picture is drawn anew, at strength {request.strength:g} as at 1"
            raise RequestError(f"{told}; take more steps, or strength 1")
        if not request.exact_steps:
            steps = int(min(request.strength, 0.999) * steps) + 1
    return sigmas[-steps - 1 :]


def spanned(spec: Spec, levels: NoiseLevels, request: TextToImage) -> Tensor:
    """The whole schedule whose end is walked; with `exact_steps` of so many steps that its end has enough."""
    levels, steps = levels.between(request.sigma_min, request.sigma_max), request.steps
    if isinstance(request, ImageToImage) and request.exact_steps:
        strength, longest = min(request.strength, 0.999), len(levels.sigmas)
        steps = max(steps, min(int(steps / strength), longest) if strength else longest)
    return spec.sigmas(request.schedule, levels, steps, request.rho)


def to_image(pixels: Tensor) -> Image.Image:
    """One picture (1, 3, H, W), about [-1, 1], as 8-bit RGB."""
    rounded = pixels[0].float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(rounded.permute(1, 2, 0).cpu().numpy())
