"""A model ready to draw: networks, where they run, and what its family and its file say of them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Cond
from ..diffusion.prediction import Epsilon, FlowOnLadder, OnLadder, Velocity
from ..diffusion.schedule import NoiseLevels, scaled_linear
from ..models.clip import CLIPText
from ..models.unet import UNet
from ..models.vae import VAE
from ..request import TextToImage
from ..runtime.bands import decode_in_bands
from ..runtime.offload import resident
from ..runtime.precision import decode_checked
from ..text.embed import Embedded, embed
from ..text.tokenizer import Tokenizer
from .catalog import Family

Prediction = Literal["epsilon", "v", "flow"]
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

    def encode(self, request: TextToImage) -> tuple[Cond, Cond]:
        """The positive and the negative condition, a batch of one each, with equally many tokens."""
        with ExitStack() as stack:
            for part in ("text", "text2")[: len(self.text)]:
                stack.enter_context(self.on_device(part))
            positive, negative = embed(
                [request.prompt, request.negative_prompt],
                self.tokenizer,
                list(zip(self.text, self.family.encodings, strict=True)),
                clip_skip=request.clip_skip,
                emphasis=request.emphasis,
            )
        if self.family.zero_empty_negative and not request.negative_prompt:
            negative = Embedded(*(torch.zeros_like(part) for part in negative))

        def cond(embedded: Embedded, *, is_negative: bool) -> Cond:
            vector, width = self.family.vector, self.unet.config.vector
            return Cond(embedded.tokens, vector(embedded.pooled, request, width, is_negative) if vector else None)

        return cond(positive, is_negative=False), cond(negative, is_negative=True)

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
