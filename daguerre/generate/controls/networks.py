"""ControlNets, ControlLoRAs and T2I-Adapters: networks that see a picture and steer a U-Net to its shapes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from PIL import Image
from torch import Tensor, nn

from ...checkpoints.controls import ControlFile, identify_control, read_control
from ...checkpoints.tables import blank
from ...families.model import Model
from ...files.reader import open_checkpoint
from ...models.controlnet import REDUCTION, ControlNet
from ...models.t2i_adapter import T2IAdapter
from ...provenance.record import UsedControl
from ...request import RequestError, Resize
from ..drawing import Drawing
from ..given import GRID, fitted
from ..window import Given, Window
from .hints import MODULES, opened
from .steering import EVERY_STEP, Call, Inner, Span, Steer, skipping, steered, within

# Who leads: both, the prompt (weaker toward fine shapes), the picture (in the positive estimate alone); `guess` is the
# authors' own way for pictures without a prompt.
Mode = Literal["balanced", "prompt", "control", "guess"]
T = TypeVar("T")
KEPT = 16  # windows whose features are kept for the next step
WEIGHTS = 0.25, 0.62, 0.825, 1.0  # of a T2I-Adapter's features under the prompt's lead, as A1111 weighs them


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A control's network, ready beside a model's."""

    kind: str  # ControlNet, ControlLoRA, T2I-Adapter or IP-Adapter
    network: nn.Module
    name: str
    sha256: str


def load_control(path: Path | str, model: Model) -> Loaded:
    """A control from a file or a diffusers folder, on the model's device and in its number format.

    Raises CheckpointError for what is none, or was made for another kind of model.
    """
    file = identify_control(open_checkpoint(path), model.unet.config)
    return Loaded(
        kind=file.kind, network=_filled(file, model), name=file.checkpoint.name, sha256=file.checkpoint.sha256
    )


def _filled(file: ControlFile, model: Model) -> nn.Module:
    dtype, network = model.unet.conv_out.weight.dtype, blank(file.config)
    with model.on_device("unet"):
        state = read_control(file, model.unet.state_dict() if file.low_rank else {})
        network.load_state_dict({key: value.detach().to(dtype) for key, value in state.items()}, assign=True)
    return network.eval().requires_grad_(False).to(model.device)


@dataclass(frozen=True, kw_only=True)
class NetworkControl:
    """A control's network with the picture that it shall see, by default the one that is drawn over.

    Its hint is made of all of the picture; where a part is drawn, the same part of the hint is seen. Where a picture
    is drawn on, what it is drawn over is what is known by then.
    """

    loaded: Loaded
    image: Image.Image | None = None
    module: str = "none"  # how the picture becomes a hint: a name in `hints.MODULES`
    weight: float = 1.0
    span: Span = EVERY_STEP
    mode: Mode = "balanced"
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if self.loaded.kind == "IP-Adapter":
            raise RequestError(f"{self.loaded.name} is an IP-Adapter; give it as ip-adapter:MODEL:PICTURE")
        if self.module not in MODULES:
            raise RequestError(f"unknown kind of control {self.module!r}; choose one of {', '.join(MODULES)}")
        if self.mode not in get_args(Mode):
            raise RequestError(f"control mode is {self.mode!r}; choose one of {', '.join(get_args(Mode))}")
        if not 0 <= self.weight <= 2:
            raise RequestError(f"a control's weight is {self.weight:g}; it must be a number from 0 to 2")

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing steered by the network. Raises RequestError for a picture that its module cannot use, for none,
        and where parts are drawn for one of another shape."""
        network = self.loaded.network
        if isinstance(network, ControlNet):
            steer = self._controlnet(drawing, network)
        else:
            assert isinstance(network, T2IAdapter)
            steer = self._adapter(drawing, network)
        told = UsedControl(
            kind=self.loaded.kind, module=self.module, name=self.loaded.name, sha256=self.loaded.sha256,
            weight=self.weight, start=self.span.start, end=self.span.end, mode=self.mode, resize=self.resize,
        )  # fmt: skip
        yield steered(drawing, steer, told, self.image)

    def _hinted(self, drawing: Drawing, multiple: int, colors: int, seen: Callable[[Tensor], T]) -> Callable[[Call], T]:
        """What a network sees in the picture through the window of a call.

        The hint's sides are those of the latents times `REDUCTION`, rounded up to a multiple.
        """
        unet, scale = drawing.model.unet, REDUCTION / drawing.model.vae.config.factor
        own = self._own(self.image, drawing) if self.image else None

        @lru_cache(1)
        def whole(given: Given, size: tuple[int, int]) -> Tensor:
            hint = MODULES[self.module](fitted(given.image, size, self.resize))
            return hint.mean(0, keepdim=True) if colors == 1 else hint

        @lru_cache(KEPT)
        def at(given: Given, window: Window) -> T:
            hint = window.cut(whole(given, window.picture))
            return seen(hint[None].to(drawing.model.device, unet.conv_out.weight.dtype))

        def of(window: Window, given: Given | None) -> T:
            if (given := own or given) is None:
                told = f"the {self.loaded.kind} {self.loaded.name} has no picture to see"
                raise RequestError(f"{told}; give it one, as KIND:MODEL:PICTURE")
            return at(given, window.within(given.window).scaled(scale, multiple))

        of(drawing.window, drawing.given)  # so that what cannot be used is refused before the first step
        return lambda call: of(call.window, call.given)

    def _own(self, image: Image.Image, drawing: Drawing) -> Given:
        """The control's own picture, as far as it lies over what is drawn."""
        image, crop = opened(image, self.module), drawing.crop
        width, height = picture = (crop or drawing.window).picture
        missing = abs(image.width * height / image.height - width), abs(image.height * width / image.width - height)
        if (drawing.part or crop) and self.resize == "crop" and min(missing) >= GRID:
            told = f"has {image.width} x {image.height} pixels and the whole picture {width} x {height}"
            raise RequestError(f"the control picture of {self.loaded.name} {told}; they must have the same shape")
        image = fitted(image, picture, self.resize).crop(crop.box) if crop else image
        return Given(image, Window.whole(*drawing.window.picture))

    def _weight(self, call: Call) -> Tensor:
        """(B, 1, 1, 1): in all for each of the batch."""
        return self.weight * call.share(positive_only=self.mode in ("control", "guess"))

    def _controlnet(self, drawing: Drawing, network: ControlNet) -> Steer:
        unet, active, dtype = drawing.model.unet, self.span.of(drawing), network.zero_mid.weight.dtype
        hint = self._hinted(drawing, REDUCTION, network.control.colors, network.embed_hint)
        channels, shares = network.config.channels_in, self._shares(len(unet.encoder) + 1)

        def steer(inner: Inner, call: Call) -> Tensor:
            if not active(call.t):
                return inner(call)
            vector = None if call.vector is None else call.vector.to(dtype)
            given = call.x[:, :channels].to(dtype), call.t, call.tokens.to(dtype), vector, hint(call)
            weight = self._weight(call).to(dtype)
            *skips, middle = (share * weight * each for share, each in zip(shares, network(*given), strict=True))
            with skipping(unet, skips, middle):
                return inner(call)

        return steer

    def _shares(self, count: int) -> list[float]:
        """Of each of a ControlNet's outputs, the middle's last; 13 for SD 1 and 2, 10 for SDXL."""
        if self.mode == "balanced":
            return [1.0] * count
        if self.mode == "guess":
            shares: list[float] = torch.logspace(-1, 0, count).tolist()
            return shares
        return [0.825 ** (12 - i) for i in range(count)]

    def _adapter(self, drawing: Drawing, network: T2IAdapter) -> Steer:
        unet, active, c = drawing.model.unet, self.span.of(drawing), network.config
        features = self._hinted(drawing, c.reduction, c.colors, network)
        shares = WEIGHTS if self.mode in ("prompt", "control") else (1.0,) * len(c.channels)
        level = unet.config.blocks + 1  # stages of each
        if c.kind == "xl":
            places = [level, 2 * level - 1, 3 * level - 1]
        else:
            places = [(i + 1) * level - 1 for i in range(len(c.channels))]

        def steer(inner: Inner, call: Call) -> Tensor:
            if not active(call.t):
                return inner(call)
            weight = self._weight(call)
            gains = [share * weight.to(each) * each for share, each in zip(shares, features(call), strict=False)]
            with within(unet, dict(zip(places, gains, strict=False)), gains[-1] if c.kind == "xl" else None):
                return inner(call)

        return steer
