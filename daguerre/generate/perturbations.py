"""What guides do inside of a U-Net: worse attention, blurred attention, none, a look at it, and FreeU.

Each is in force during one call of the network; nothing stays attached.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..diffusion.guidance.blur import blur
from ..diffusion.prediction import OnLadder
from ..models.attention import Attend, Attention, attending
from ..models.unet import UNet
from ..request import FreeU, RequestError

# Latents that the network is called with (B, C, H, W) -> what holds during the call
Change = Callable[[Tensor], AbstractContextManager[object]]


def within(unguided: OnLadder, change: Change) -> OnLadder:
    """The same denoiser, every call of its network inside of a change."""
    network = unguided.network

    def changed(x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None, **told: Tensor) -> Tensor:
        with change(x):
            return network(x, t, tokens, vector, **told)

    return replace(unguided, network=changed)


def self_attentions(unet: UNet, layers: str, guide: str) -> frozenset[str]:
    """The paths of self-attention in parts of a U-Net that are joined by +, such as "mid_attn+decoder.1".

    Raises RequestError, naming the guide, for a part without any.
    """
    paths = [path for path, module in unet.named_modules() if isinstance(module, Attention)]
    paths = [path for path in paths if path.endswith("self_attn")]
    found: set[str] = set()
    for layer in (part.strip() for part in layers.split("+")):
        matching = {path for path in paths if f"{path}.".startswith(f"{layer}.")}
        if not matching:
            parts = list(dict.fromkeys(path.partition(".blocks")[0].removesuffix(".attn") for path in paths))
            raise RequestError(f"guide {guide}: no self-attention in {layer!r}; there is in {', '.join(parts)}")
        found |= matching
    return frozenset(found)


def perturbed(unet: UNet, paths: frozenset[str]) -> Change:
    """Attention maps as identities: places see but themselves (arXiv:2403.17377)."""
    return lambda x: attending(unet, lambda path, attend: (lambda q, k, v: v) if path in paths else None)


def dropped(unet: UNet, paths: frozenset[str]) -> Change:
    """Attention that gives nothing."""
    return lambda x: attending(
        unet, lambda path, attend: (lambda q, k, v: torch.zeros_like(q)) if path in paths else None
    )


def blurred(unet: UNet, paths: frozenset[str], sigma: float) -> Change:
    """Attention with queries blurred over places (arXiv:2408.00760)."""

    @contextmanager
    def change(x: Tensor) -> Iterator[None]:
        seen = (0, 0)

        def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            nonlocal seen
            seen = given[0].shape[-2], given[0].shape[-1]  # a tile of x, where there are tiles

        def blurring(attend: Attend) -> Attend:
            def attend_blurred(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                batch, heads, places, width = q.shape
                pictures = blur(q.transpose(2, 3).reshape(batch * heads, width, *grid(places, seen)), sigma)
                return attend(pictures.reshape(batch, heads, width, places).transpose(2, 3), k, v)

            return attend_blurred

        hook = unet.register_forward_pre_hook(look)
        try:
            with attending(unet, lambda path, attend: blurring(attend) if path in paths and sigma > 0 else None):
                yield
        finally:
            hook.remove()

    return change


class Watch:
    """Sees how much each place is attended to in the middle of a U-Net, in the last call of it."""

    def __init__(self, unet: UNet, guide: str):
        self.unet = unet
        self.path = min(self_attentions(unet, "mid_attn", guide))
        self.seen: Tensor | None = None  # (B, S), 1 on average

    def change(self, x: Tensor) -> AbstractContextManager[None]:
        def watching(attend: Attend) -> Attend:
            def watched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                if k.shape == q.shape:  # not where a style's reference is looked at beside
                    scores = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
                    self.seen = scores.softmax(-1).mean(1).sum(1)
                return attend(q, k, v)

            return watched

        return attending(self.unet, lambda path, attend: watching(attend) if path == self.path else None)

    def attention(self, x: Tensor) -> Tensor:
        """What was seen of the last len(x) pictures of the last call (B, 1, h, w), 1 on average."""
        assert self.seen is not None
        seen = self.seen[-len(x) :]
        return seen.reshape(len(x), 1, *grid(seen.shape[1], (x.shape[-2], x.shape[-1])))


def grid(places: int, size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of a level of a U-Net with so many places, for latents of a size."""
    height, width = size
    while height * width > places:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def freed(unet: UNet, guide: FreeU) -> Change:
    """FreeU (arXiv:2309.11497, equations 2 to 5) in the first two levels of the decoder.

    Half of the channels from below are multiplied by b, in version 2 less where they are weak; in those that skipped
    the depth, the four lowest frequencies are multiplied by s.
    """
    numbers = [(guide.b1, guide.s1), (guide.b2, guide.s2)]

    @contextmanager
    def change(x: Tensor) -> Iterator[None]:
        with ExitStack() as stack:
            for stage, (level, channels) in zip(unet.decoder, _decoder_levels(unet), strict=True):
                if level < 2 and numbers[level] != (1, 1):
                    hook = _freeing(channels, *numbers[level], guide.version)
                    stack.callback(stage.register_forward_pre_hook(hook).remove)
            yield

    return change


def _decoder_levels(unet: UNet) -> Iterator[tuple[int, int]]:
    """Of each stage of the decoder: its level, 0 the deepest, and how many channels come from below."""
    width = unet.config.channels[-1]
    for level, channels in enumerate(reversed(unet.config.channels)):
        for _ in range(unet.config.blocks + 1):
            yield level, width
            width = channels


def _freeing(channels: int, b: float, s: float, version: float) -> Callable[[nn.Module, tuple[Tensor, ...]], object]:
    """A hook before a decoder's stage, whose input begins with `channels` from below and goes on with the skip."""

    def hook(stage: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        deep, skip = args[0][:, :channels], args[0][:, channels:]
        half, factor = channels // 2, torch.full((), b, dtype=deep.dtype, device=deep.device)
        if version == 2:
            mean = deep.mean(1, keepdim=True)
            low, high = (mean.flatten(1).amin(1), mean.flatten(1).amax(1))
            strength = (mean - low[:, None, None, None]) / (high - low).clamp_min(1e-6)[:, None, None, None]
            factor = (b - 1) * strength + 1
        skip = skip if s == 1 else _damped(skip, s)
        return torch.cat([deep[:, :half] * factor, deep[:, half:], skip], dim=1), *args[1:]

    return hook


def _damped(x: Tensor, s: float) -> Tensor:
    """x (B, C, H, W) with its frequencies of -1 and 0 cycles along both axes multiplied by s."""
    frequencies = torch.fft.fft2(x.float())
    lowest = torch.tensor([-1, 0], device=x.device)
    frequencies[..., lowest[:, None], lowest] *= s
    back: Tensor = torch.fft.ifft2(frequencies).real
    return back.to(x.dtype)
