"""Style from a reference, without any file: its self-attention is shared with the picture that is drawn.

StyleAligned (arXiv:2312.02133): the picture attends to the reference's keys and values beside its own, with its
queries and keys normalized to the reference's (section 4). What leaves each residual block may be normalized likewise
(arXiv:1703.06868), which is stronger where a network attends little. The reference is drawn from a prompt, or is a
given picture that is brought back to noise by DDIM inversion, or that noise is simply added to.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

import torch
from PIL import Image
from torch import Tensor, nn

from ...diffusion.denoiser import Cond
from ...diffusion.noise import initial
from ...models.attention import Attend, Change, attending
from ...models.unet import ResBlock, UNet, UNetConfig
from ...provenance.record import UsedControl
from ...request import MAX_SEED, RequestError, TextToImage
from ..canvas import empty_canvas
from ..drawing import Drawing, on_canvas, walked
from ..given import encoded, fitted, opaque, to_pixels
from .steering import EVERY_STEP, Call, Inner, Span, steered

Way = Literal["noised", "inverted"]
Found = dict[str, tuple[Tensor, ...]]  # queries, keys and values by path
Moments = tuple[Tensor, Tensor]  # mean and spread of each channel (B, C, 1, 1)


@dataclass
class Course:
    """A reference's states at all noise levels: estimate and noise at some of them, between those of the nearest."""

    sigmas: list[float] = field(default_factory=list)
    clean: list[Tensor] = field(default_factory=list)  # (1, C, H, W)
    noise: list[Tensor] = field(default_factory=list)

    def add(self, sigma: Tensor, x: Tensor, x0: Tensor) -> None:
        self.sigmas.append(sigma.item())
        self.clean.append(x0)
        self.noise.append((x - x0) / sigma)

    def at(self, sigma: Tensor) -> Tensor:
        """The state (1, C, H, W) at a noise level."""
        level = max(sigma.item(), 1e-6)
        i = min(range(len(self.sigmas)), key=lambda i: max(self.sigmas[i] / level, level / self.sigmas[i]))
        return self.clean[i] + sigma * self.noise[i]


@dataclass(frozen=True, kw_only=True)
class Style:
    """A reference whose look the pictures shall have: a picture, or what a prompt and a seed draw."""

    image: Image.Image | None = None
    prompt: str = ""  # of the reference; with a picture, what is on it
    seed: int = 0  # of the reference that is drawn
    way: Way = "noised"  # of a given picture to noise
    weight: float = 1.0  # 0 = the picture's own attention, 1 = shared
    align: bool = True  # normalize queries and keys, as StyleAligned does
    features: float | None = (
        None  # 0 to 1: how far what leaves the residual blocks is normalized as well; None: `usual`
    )
    negative: bool = False  # share attention in the negative estimate, too: a milder style
    span: Span = EVERY_STEP

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise RequestError(f"the style's weight is {self.weight:g}; it must be a number from 0 to 1")
        if self.features is not None and not 0 <= self.features <= 1:
            raise RequestError(f"the style's share of features is {self.features:g}; it must be a number from 0 to 1")
        if self.image is None and not self.prompt:
            raise RequestError("a style needs a reference: give a picture, or a prompt that draws one")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"the style's seed is {self.seed}; it must be a whole number from 0 to {MAX_SEED}")

    @property
    def told(self) -> UsedControl:
        """What a record tells of it, and `recorded` reads back."""
        how = ["aligned" if self.align else "shared", *["both sides"] * self.negative, f"features {self.features}"]
        module = self.way if self.image else f"seed {self.seed}"
        return UsedControl(
            kind="style", module=module, name=self.prompt, weight=self.weight, start=self.span.start,
            end=self.span.end, mode=", ".join(how),
        )  # fmt: skip

    @classmethod
    def recorded(cls, used: UsedControl, image: Image.Image | None) -> Self:
        """The style that a record tells of, with its picture. Raises RequestError for words of another kind."""
        try:
            how, features = used.mode.split(", "), float(used.mode.rpartition("features ")[2])
            seed = 0 if image else int(used.module.removeprefix("seed "))
        except ValueError:
            raise RequestError(f"the record's style is {used.module!r}, {used.mode!r}; it was edited") from None
        return cls(
            image=image, prompt=used.name, seed=seed, way="inverted" if used.module == "inverted" else "noised",
            weight=used.weight, align="aligned" in how, features=features, negative="both sides" in how,
            span=Span(used.start, used.end),
        )  # fmt: skip

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing in the style of the reference. Draws or inverts the reference first.

        Raises RequestError after regions, each of which shall ask for the style.
        """
        if any(used.kind == "region" for used in drawing.controls):
            raise RequestError("the style comes after the regions that it is to hold for; give it before them")
        if self.features is None:
            with replace(self, features=usual(drawing.model.unet.config)).attached(drawing) as drawing:
                yield drawing
            return
        reference = self._reference(drawing)
        course = self._course(reference)
        features = self.features
        unet, levels, active = drawing.model.unet, drawing.model.levels, self.span.of(drawing)
        (said, _), negative = reference.conditions[0].positive[0], reference.conditions[0].negative

        def steer(inner: Inner, call: Call) -> Tensor:
            if not active(call.t):
                return inner(call)
            sigma = levels.sigma(call.t[0].cpu()).to(call.x.device)
            tokens, vector = call.tokens, call.vector
            if self.prompt:
                tokens = _by_side(call, said.tokens, negative.tokens)
            if self.prompt and said.vector is not None and negative.vector is not None:
                vector = _by_side(call, said.vector, negative.vector)
            found, moments = Found(), dict[nn.Module, Moments]()
            beside = None if said.concat is None else said.concat.expand(len(call.x), -1, -1, -1)

            def beheld(x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None) -> Tensor:
                return inner(call._replace(x=x, t=t, tokens=tokens, vector=vector, own=False))

            with attending(unet, _recording(found)), _looking(unet, moments):
                state = course.at(sigma).expand(len(call.x), -1, -1, -1)
                replace(drawing.unguided, network=beheld)(state, sigma, Cond(tokens, vector, beside))
            side = call.share(positive_only=not self.negative)
            with (
                attending(unet, _sharing(found, self.weight * side, align=self.align)),
                _normalizing(moments, features * side),
            ):
                return inner(call)

        yield steered(drawing, steer, self.told, self.image)

    def _reference(self, drawing: Drawing) -> Drawing:
        """The drawing of the reference, as large as what the network sees, with nothing that is drawn over: by its own
        prompt, or by the drawing's for a picture that no prompt tells of."""
        request, (width, height) = drawing.request, drawing.window.size
        values = {f.name: getattr(request, f.name) for f in fields(TextToImage)} | {"width": width, "height": height}
        reference = replace(drawing, request=TextToImage(**values), around=lambda guided: guided)
        if self.prompt:
            own = replace(reference.request, prompt=self.prompt, seed=self.seed, count=1, variation_strength=0.0)
            conditions = drawing.model.conditions(own, drawing.conditions[-1].last)
            reference = replace(reference, request=own, conditions=conditions)
        return on_canvas(reference, empty_canvas(drawing.model, reference.shape))

    def _course(self, drawing: Drawing) -> Course:
        course = Course()
        if self.image is None:
            drawing = replace(drawing, sigmas=walked(drawing.spec, drawing.model.levels, drawing.request))
            x = drawing.start(0)
            for step in drawing.steps(0, x):
                course.add(step.sigma, x, step.x0)
                x = step.x
            return course
        request, model = drawing.request, drawing.model
        pixels = to_pixels(fitted(opaque(self.image), (request.width, request.height), "crop"))
        latents, one = encoded(model, pixels), torch.ones(())
        if self.way == "noised":
            course.add(one, latents + initial([MAX_SEED], drawing.shape).to(latents), latents)
            return course
        # DDIM inversion (arXiv:2010.02502, section 4.3): the sampler's ODE, upwards.
        x, levels = latents, drawing.sigmas[drawing.sigmas > 0].flip(0)
        with model.on_device("unet"):
            for sigma, above in zip(levels, (*levels[1:], levels[-1]), strict=True):
                x0 = drawing.unguided(x, sigma, drawing.cond)
                course.add(sigma, x, x0)
                x = x + (above - sigma) * (x - x0) / sigma
        return course


def usual(c: UNetConfig) -> float:
    """The share of features for a network: half for a small one that attends at its small sizes alone."""
    return 0.0 if c.depth[0] or c.context >= 768 else 0.5


def _by_side(call: Call, positive: Tensor, negative: Tensor) -> Tensor:
    """The reference's own condition for each of the batch."""
    return torch.cat([positive if side > 0 else negative for side in call.side])


def _recording(found: Found) -> Change:
    """Keeps queries, keys and values of self-attention, by path."""

    def change(path: str, attend: Attend) -> Attend | None:
        def recorded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            found[path] = q, k, v
            return attend(q, k, v)

        return recorded if path.endswith("self_attn") else None

    return change


def _sharing(found: Found, weight: Tensor, *, align: bool) -> Change:
    """Self-attention to what was found, beside its own."""

    def change(path: str, attend: Attend) -> Attend | None:
        if path not in found:
            return None
        q_ref, k_ref, v_ref = found[path]

        def shared(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen = (_normalized(q, q_ref), _normalized(k, k_ref)) if align else (q, k)
            own, share = attend(q, k, v), weight.to(q)
            # Its own come first: attention that is perturbed gives as many as it is given.
            both = attend(seen[0], torch.cat([seen[1], k_ref], dim=2), torch.cat([v, v_ref], dim=2))
            return own + share * (both[:, :, : q.shape[2]] - own)

        return shared

    return change


@contextmanager
def _looking(unet: UNet, found: dict[nn.Module, Moments]) -> Iterator[None]:
    """Keeps the moments of what leaves each residual block."""

    def look(block: nn.Module, given: tuple[Tensor, ...], x: Tensor) -> None:
        found[block] = _moments(x, 2, 3)

    with ExitStack() as stack:
        for module in unet.modules():
            if isinstance(module, ResBlock):
                stack.callback(module.register_forward_hook(look).remove)
        yield


@contextmanager
def _normalizing(found: dict[nn.Module, Moments], weight: Tensor) -> Iterator[None]:
    """Gives what leaves these blocks the moments that were found, for a share (B, 1, 1, 1) of it."""

    def normalize(block: nn.Module, given: tuple[Tensor, ...], x: Tensor) -> Tensor:
        mean, std = found[block]
        own = _moments(x, 2, 3)
        return x + weight.to(x) * ((x - own[0]) / (own[1] + 1e-5) * std + mean - x)

    with ExitStack() as stack:
        for block in found if weight.any() else ():
            stack.callback(block.register_forward_hook(normalize).remove)
        yield


def _normalized(x: Tensor, reference: Tensor) -> Tensor:
    """AdaIN (arXiv:1703.06868, equation 8): x (B, heads, S, D) with the reference's mean and spread over its places."""
    (mean, std), (wanted_mean, wanted_std) = _moments(x, 2), _moments(reference, 2)
    return (x - mean) / (std + 1e-5) * wanted_std + wanted_mean


def _moments(x: Tensor, *places: int) -> Moments:
    """Mean and spread over these dimensions; a single place has no spread, as the lowest level of a small picture."""
    many = math.prod(x.shape[dim] for dim in places) > 1
    return x.mean(places, keepdim=True), x.std(places, correction=int(many), keepdim=True)
