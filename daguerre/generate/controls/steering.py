"""Networks steered from beside: each call of the network goes through all that steers it, nothing stays attached."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from ...diffusion.conditions import Conditions
from ...diffusion.denoiser import Cond
from ...diffusion.prediction import Network
from ...models.unet import UNet
from ...provenance.record import UsedControl
from ...request import RequestError
from ..drawing import Drawing
from ..given import used
from ..window import Given, Window


class Call(NamedTuple):
    """What a network is called with, as `Network` says."""

    x: Tensor
    t: Tensor
    tokens: Tensor
    vector: Tensor | None
    side: Tensor  # (B,) 1 = positive, 0 = negative
    window: Window  # what x shows of the picture
    given: Given | None  # what is drawn over
    own: bool = True  # x is of the picture, not of another that it is drawn after

    def share(self, *, positive_only: bool) -> Tensor:
        """(B, 1, 1, 1): how much each of the batch is steered."""
        weights = self.side if positive_only else torch.ones_like(self.side)
        return weights.to(self.x)[:, None, None, None]


Inner = Callable[[Call], Tensor]
Steer = Callable[[Inner, Call], Tensor]  # (the network, a call of it) -> its prediction, steered


@dataclass(frozen=True)
class Steered:
    """A `Network` and what steers it; the last is the outermost."""

    network: Network
    window: Window
    given: Given | None = None
    steers: tuple[Steer, ...] = ()

    def __call__(
        self, x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None, side: Tensor | None = None
    ) -> Tensor:
        """A condition that tells no side counts as negative: it is none that the prompt asks for."""
        inner: Inner = self._bare
        for steer in self.steers:
            inner = partial(steer, inner)
        side = torch.zeros(len(x), device=x.device) if side is None else side
        return inner(Call(x, t, tokens, vector, side, self.window, self.given))

    def _bare(self, call: Call) -> Tensor:
        return self.network(call.x, call.t, call.tokens, call.vector)


def steered(
    drawing: Drawing, steer: Steer, told: UsedControl | None = None, image: Image.Image | None = None
) -> Drawing:
    """The drawing with one more that steers its network, what a record tells of it, and the picture given for it."""
    network = drawing.unguided.network
    network = network if isinstance(network, Steered) else Steered(network, drawing.window, drawing.given)
    network = replace(network, steers=(*network.steers, steer))
    return replace(
        drawing,
        unguided=replace(drawing.unguided, network=network),
        conditions=tuple(
            Conditions(
                c.last, tuple((_sided(cond, 1.0), weight) for cond, weight in c.positive), _sided(c.negative, 0.0)
            )
            for c in drawing.conditions
        ),
        controls=(*drawing.controls, *([told] if told else [])),
        pictures=(*drawing.pictures, *([used(f"control {len(drawing.controls) + 1}", image)] if image else [])),
    )


def seen_through(drawing: Drawing, given: Given) -> Drawing:
    """The drawing with another part of its picture before the network, for all that steers it."""
    network = drawing.unguided.network
    if isinstance(network, Steered):
        network = replace(network, window=given.window, given=given)
    return replace(drawing, part=given.window, given=given, unguided=replace(drawing.unguided, network=network))


def _sided(cond: Cond, side: float) -> Cond:
    return cond._replace(side=torch.full((len(cond.tokens),), side, device=cond.tokens.device))


@dataclass(frozen=True)
class Span:
    """A part of the steps, as shares of them: 0 <= start < end <= 1."""

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise RequestError(
                f"a control from {self.start:g} to {self.end:g} of the steps: give 0 <= start < end <= 1"
            )

    def of(self, drawing: Drawing) -> Callable[[Tensor], bool]:
        """Whether a timestep lies in it, among the drawing's own noise levels."""
        sigmas, timestep = drawing.sigmas, drawing.model.levels.timestep
        first, last = (round(share * (len(sigmas) - 1)) for share in (self.start, self.end))
        high = float("inf") if self.start == 0 else timestep(sigmas[first]).item()
        low = -1.0 if self.end == 1 else timestep(sigmas[last]).item()
        return lambda t: low < t.max().item() <= high


EVERY_STEP = Span()


@contextmanager
def skipping(unet: UNet, skips: Sequence[Tensor], middle: Tensor) -> Iterator[None]:
    """The U-Net with additions to what skips from encoder to decoder, in the encoder's order, and to its middle."""

    def joined(residual: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(stage: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x, wide = given[0], residual.shape[1]
            return torch.cat([x[:, :-wide], x[:, -wide:] + residual], dim=1), *given[1:]

        return hook

    with ExitStack() as stack:
        stack.callback(unet.mid_out.register_forward_hook(_adding(middle)).remove)
        for stage, residual in zip(unet.decoder, reversed(skips), strict=True):
            stack.callback(stage.register_forward_pre_hook(joined(residual)).remove)
        yield


@contextmanager
def within(unet: UNet, stages: Mapping[int, Tensor], middle: Tensor | None = None) -> Iterator[None]:
    """The U-Net with additions to what leaves stages of its encoder, and its middle."""
    with ExitStack() as stack:
        for i, feature in stages.items():
            stack.callback(unet.encoder[i].register_forward_hook(_adding(feature)).remove)
        if middle is not None:
            stack.callback(unet.mid_out.register_forward_hook(_adding(middle)).remove)
        yield


def _adding(gain: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda module, given, output: output + gain
