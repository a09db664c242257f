"""A model ready to draw: networks, where they run, and what its family and its file say of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from ..diffusion.conditions import Conditions
from ..diffusion.denoiser import Cond
from ..diffusion.prediction import Epsilon, FlowOnLadder, OnLadder, Velocity
from ..diffusion.schedule import NoiseLevels, scaled_linear
from ..models.clip import CLIPText
from ..models.unet import UNet
from ..models.vae import VAE
from ..request import RequestError, TextToImage
from ..runtime.bands import decode_in_bands
from ..runtime.offload import resident
from ..runtime.precision import decode_checked
from ..text.embed import Embedded, embed
from ..text.segments import plan_of, texts_of
from ..text.tokenizer import Tokenizer
from .catalog import Family

Prediction = Literal["epsilon", "v", "flow"]
Attach = Callable[["Model"], AbstractContextManager["Model"]]  # of an adapter, for so long
CPU = torch.device("cpu")
BAND = 16  # rows of latents decoded at once in low-memory mode


@dataclass(frozen=True, kw_only=True)
class Model:
    """Made by `load_model`, or of networks in training."""

    family: Family
    unet: UNet
    vae: VAE
    text: tuple[CLIPText, ...]
    prediction: Prediction
    name: str
    sha256: str = ""  # of the file or folder; "" for weights that no file holds
    vae_name: str = ""  # of a separate VAE file
    vae_sha256: str = ""
    levels: NoiseLevels = field(default_factory=scaled_linear)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    attached: tuple[str, ...] = ()  # LoRAs and hypernetworks, by the names that prompts may ask for
    passes: Mapping[str, tuple[Attach, ...]] = field(default_factory=dict)  # what `during` attaches, by its pass
    device: torch.device = CPU
    low_memory: bool = False
    reload: Mapping[str, Callable[[nn.Module], object]] = field(default_factory=dict)  # by part, for freed weights

    @property
    def defaults(self) -> TextToImage:
        """The request that suits this model, but for the prompt."""
        return TextToImage(prompt="", **self.family.defaults)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by name: text, text2 where there is one, unet, vae."""
        return {**dict(zip(("text", "text2"), self.text, strict=False)), "unet": self.unet, "vae": self.vae}

    def on_device(self, part: str) -> AbstractContextManager[nn.Module]:
        """A part where it computes; in low-memory mode it leaves afterwards."""
        return resident(self.parts[part], self.device, leave=self.low_memory, reload=self.reload.get(part))

    @contextmanager
    def during(self, which: Literal["first", "second"]) -> Iterator["Model"]:
        """The model in a pass of a hires fix, with the adapters that only the prompt of this pass names."""
        with ExitStack() as stack:
            model = self
            for attach in self.passes.get(which, ()):
                model = stack.enter_context(attach(model))
            yield model

    def encode(self, request: TextToImage) -> tuple[Cond, Cond]:
        """The positive and the negative condition, a batch of one each, with equally many tokens.

        Of prompts that change or have several parts, what comes first; `conditions` gives all.
        """
        first = self.conditions(request, calls=1)[0]
        return first.positive[0][0], first.negative

    def conditions(self, request: TextToImage, calls: int, *, after: int = 0) -> tuple[Conditions, ...]:
        """What steers each of `calls` calls of a sampler, batches of one, with equally many tokens.

        `after` is the number of calls in the pass before this one. Each text is encoded once. Raises RequestError for
        a prompt that cannot be read, or that asks for a LoRA or a hypernetwork that is not attached.
        """
        plan, networks = plan_of(request, calls, after=after)
        if missing := [n.name for n in networks if n.name.casefold() not in map(str.casefold, self.attached)]:
            raise RequestError(
                f"the prompt asks for {missing[0]!r}, which is not attached to the model; attach its file "
                "(adapters.named.networks_of finds it) or take the tag out of the prompt"
            )
        embedded = self._embed(sorted(texts_of(plan)), request)
        blank = self.family.zero_empty_negative and not any(segment.negative for segment in plan)

        @cache
        def cond(text: str, is_negative: bool) -> Cond:
            said, vector = embedded[text], self.family.vector
            if is_negative and blank:
                said = Embedded(*(torch.zeros_like(part) for part in said))
            pooled = vector(said.pooled, request, self.unet.config.vector, is_negative) if vector else None
            return Cond(said.tokens, pooled)

        return tuple(
            Conditions(s.last, tuple((cond(p.text, False), p.weight) for p in s.positive), cond(s.negative, True))
            for s in plan
        )

    def _embed(self, texts: Sequence[str], request: TextToImage) -> dict[str, Embedded]:
        """By text, padded to equally many tokens."""
        encoders = list(zip(self.text, self.family.encodings, strict=True))
        with ExitStack() as stack:
            for part in ("text", "text2")[: len(self.text)]:
                stack.enter_context(self.on_device(part))
            skip, emphasis = request.clip_skip, request.emphasis
            return dict(
                zip(texts, embed(texts, self.tokenizer, encoders, clip_skip=skip, emphasis=emphasis), strict=True)
            )

    def denoiser(self) -> OnLadder:
        kinds: dict[str, type[OnLadder]] = {"epsilon": Epsilon, "v": Velocity, "flow": FlowOnLadder}
        return kinds[self.prediction](self._network, self.levels)

    def _network(self, x: Tensor, t: Tensor, tokens: Tensor, vector: Tensor | None) -> Tensor:
        """The U-Net, in its own number format whatever the sampler's."""
        dtype = self.unet.conv_out.weight.dtype
        vector = vector if vector is None else vector.to(dtype)
        y: Tensor = self.unet(x.to(dtype), t, tokens.to(dtype), vector)
        return y.to(x.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1]; raises NumericError rather than give a broken picture."""
        with self.on_device("vae"):

            def decode(z: Tensor) -> Tensor:
                z = z.to(self.vae.post_quant.weight.dtype)
                return decode_in_bands(self.vae, z, BAND) if self.low_memory else self.vae.decode(z)

            return decode_checked(self.vae, decode, latents)
