"""The guides of a request, set round a model's guidance in an order that does not hang on that of the request.

For what a guide costs see its class in `request`.

1. FreeU changes the network, in every call of it.
2. Where the negative side is skipped, the positive estimate stands alone. Else Perp-Neg, tangential damping,
   CFG-Zero* and adaptive projection change the two estimates, and the guided one is made of them.
3. Perturbed attention, smoothed energy, self-attention guidance and autoguidance add to it.
4. Dynamic thresholding changes the sum, then rescaling, then CFG-Zero*'s first steps.
5. Outside of the request's guidance interval there is nothing but 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

from torch import Tensor

from ..diffusion.denoiser import Cond, Denoiser
from ..diffusion.guidance import ClassifierFree, Guided, Interval
from ..diffusion.guidance.finishes import Course, Rescale, Thresholded, ZeroAbove
from ..diffusion.guidance.guided import Finish, Pair, Term
from ..diffusion.guidance.pairs import AdaptiveProjected, Perpendicular, Tangential, ZeroStar
from ..diffusion.guidance.terms import Against, SelfAttention
from ..diffusion.prediction import OnLadder
from ..families.loading import load_model
from ..families.model import Model
from ..request import (
    AdaptiveProjection,
    Autoguidance,
    CFGZero,
    DynamicThresholding,
    FreeU,
    Guide,
    PerpNeg,
    PerturbedAttention,
    RequestError,
    SelfAttentionGuidance,
    SkipNegative,
    SmoothedEnergy,
    TangentialDamping,
    TextToImage,
)
from .perturbations import Watch, blurred, dropped, freed, perturbed, self_attentions, within

G = TypeVar("G", bound=Guide)


@dataclass(frozen=True)
class Guides:
    """The guides of a request to a model. Raises RequestError where they do not suit it."""

    model: Model
    request: TextToImage

    def __post_init__(self) -> None:
        unet = self.model.unet
        for guide in self.request.guides:
            if isinstance(guide, PerturbedAttention | SmoothedEnergy):
                self_attentions(unet, guide.layers, guide.kind)
            elif isinstance(guide, SelfAttentionGuidance):
                self_attentions(unet, "mid_attn", guide.kind)
            elif isinstance(guide, Autoguidance) and guide.drop:
                self_attentions(unet, guide.drop, guide.kind)
            elif isinstance(guide, CFGZero) and guide.steps >= self.request.steps:
                raise RequestError(f"guide zero: steps is {guide.steps}; take fewer than all {self.request.steps}")
        _ = self.weaker

    def asked(self, kind: type[G]) -> G | None:
        """The guide of a kind, if the request has it."""
        return next((guide for guide in self.request.guides if isinstance(guide, kind)), None)

    @cached_property
    def weaker(self) -> Model | None:
        """The other model of autoguidance."""
        guide, model = self.asked(Autoguidance), self.model
        if guide is None or not guide.model:
            return None
        dtype = str(model.unet.conv_out.weight.dtype).removeprefix("torch.")
        other = load_model(guide.model, device=model.device.type, dtype=dtype, low_memory=model.low_memory)
        if guide.sha256 and guide.sha256 != other.sha256:
            raise RequestError(f"guide auto: {guide.model} has changed; its SHA-256 was {guide.sha256[:10]}")
        for name in ("channels_in", "channels_out", "context", "vector"):
            ours, theirs = (getattr(m.unet.config, name) for m in (model, other))
            if ours != theirs:
                raise RequestError(
                    f"guide auto: {guide.model} is {other.family.title}, whose network has {name} {theirs}; "
                    f"{model.name} is {model.family.title} with {ours}. Name a model of the same family"
                )
        return other

    def begin(self, unguided: OnLadder, sigmas: Tensor, empty: Callable[[], Cond]) -> "Steering":
        """What one picture is guided by; `empty` makes the condition of an empty prompt where that is needed."""
        free = self.asked(FreeU)
        bare = within(unguided, freed(self.model.unet, free)) if free else unguided
        watch = Watch(self.model.unet, "sag") if self.asked(SelfAttentionGuidance) else None
        perp = self.asked(PerpNeg)
        return Steering(self, bare, sigmas, watch, Perpendicular(bare, empty(), perp.scale) if perp else None)


@dataclass(frozen=True)
class Steering:
    """The guides of one picture, which remember its earlier steps."""

    guides: Guides
    bare: OnLadder  # the network as a Denoiser, FreeU in it
    sigmas: Tensor
    watch: Watch | None
    perpendicular: Perpendicular | None

    @property
    def inner(self) -> OnLadder:
        """What the picture's guidance shall call."""
        return self.bare if self.watch is None else within(self.bare, self.watch.change)

    def around(self, guidance: ClassifierFree) -> Denoiser:
        """Guidance of `inner` with all guides."""
        guided = Guided(guidance, self._pairs, self._terms(guidance), self._finishes(guidance.scale), self._alone)
        return self._in_time(guided, replace(guidance, inner=self.bare))

    def step(self, sigma: Tensor) -> int:
        """The step, 0-based, that a noise level belongs to."""
        level = float(sigma.max())
        return max(0, sum(level <= float(s) for s in self.sigmas[:-1]) - 1)

    def _in_time(self, guided: Denoiser, bare: ClassifierFree) -> Denoiser:
        start, end = self.guides.request.guidance_interval
        if (start, end) == (0.0, 1.0):
            return guided
        first, last = (round(share * (len(self.sigmas) - 2)) for share in (start, end))
        return Interval(guided, bare.positive, low=self.sigmas[last].item(), high=self.sigmas[first].item())

    def _alone(self, sigma: Tensor) -> bool:
        skip, step = self.guides.asked(SkipNegative), self.step(sigma)
        if skip is None:
            return False
        early = skip.early > 0 and step / (len(self.sigmas) - 1) <= skip.early
        return early or (float(sigma.max()) < skip.below and (skip.every or step % 2 == 1))

    @cached_property
    def _pairs(self) -> tuple[Pair, ...]:
        pairs: list[Pair] = [] if self.perpendicular is None else [self.perpendicular]
        if self.guides.asked(TangentialDamping):
            pairs.append(Tangential(self.bare.c_skip))
        if self.guides.asked(CFGZero):
            pairs.append(ZeroStar(self.bare.c_skip))
        if apg := self.guides.asked(AdaptiveProjection):
            pairs.append(AdaptiveProjected(apg.eta, apg.threshold, apg.momentum))
        return tuple(pairs)

    def _terms(self, guidance: ClassifierFree) -> tuple[Term, ...]:
        terms: list[Term] = []
        unet, asked = self.guides.model.unet, self.guides.asked

        def against(weak: OnLadder, scale: Callable[[Tensor], float]) -> None:
            terms.append(Against(replace(guidance, inner=weak), scale))

        if pag := asked(PerturbedAttention):
            change = perturbed(unet, self_attentions(unet, pag.layers, "pag"))
            against(within(self.bare, change), partial(self._falling, pag.scale, pag.adaptive))
        if (seg := asked(SmoothedEnergy)) and seg.blur:
            change = blurred(unet, self_attentions(unet, seg.layers, "seg"), seg.blur)
            against(within(self.bare, change), lambda sigma: seg.scale)
        if (sag := asked(SelfAttentionGuidance)) and self.watch and sag.scale:
            attention = self.watch.attention
            bare = replace(guidance, inner=self.bare)
            terms.append(SelfAttention(bare, attention, sag.scale, sag.blur, sag.threshold))
        if auto := asked(Autoguidance):
            if weaker := self.guides.weaker:
                weak = within(weaker.denoiser(), lambda x: weaker.on_device("unet"))
            else:
                weak = within(self.bare, dropped(unet, self_attentions(unet, auto.drop, "auto")))
            against(weak, lambda sigma: auto.scale)
        return tuple(terms)

    def _falling(self, scale: float, adaptive: float, sigma: Tensor) -> float:
        timestep = float(self.guides.model.levels.timestep(sigma).max()) if adaptive else 1000.0
        return max(0.0, scale - adaptive * (1000 - timestep))

    def _finishes(self, scale: float) -> tuple[Finish, ...]:
        finishes: list[Finish] = []
        request, last = self.guides.request, max(1, len(self.sigmas) - 2)
        if t := self.guides.asked(DynamicThresholding):
            own = Course(scale, t.cfg_least, t.cfg_mode)
            mimic = Course(t.mimic_scale, t.mimic_least, t.mimic_mode)
            finishes.append(Thresholded(scale, own, mimic, t.percentile, lambda sigma: self.step(sigma) / last))
        if request.guidance_rescale and scale != 1:
            finishes.append(Rescale(request.guidance_rescale, self.bare.c_skip))
        zero = self.guides.asked(CFGZero)
        if zero and zero.steps:
            finishes.append(ZeroAbove(self.sigmas[zero.steps].item(), self.bare.c_skip))
        return tuple(finishes)
