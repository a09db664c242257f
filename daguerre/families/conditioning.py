"""A request's words and sizes as what the U-Net is steered by."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import torch
from torch import nn

from ..diffusion.denoiser import Cond
from ..models.clip import CLIPText
from ..models.unet import UNetConfig
from ..request import TextToImage
from ..text.embed import Embedded, embed
from ..text.tokenizer import Tokenizer
from .family import Family


def encode_prompts(
    family: Family,
    text: Sequence[CLIPText],
    unet: UNetConfig,
    request: TextToImage,
    on_device: Callable[[str], AbstractContextManager[nn.Module]],
) -> tuple[Cond, Cond]:
    """The positive and the negative condition, a batch of one each, with equally many tokens."""
    with ExitStack() as stack:
        for part, _ in zip(("text", "text2"), text, strict=False):
            stack.enter_context(on_device(part))
        positive, negative = embed(
            [request.prompt, request.negative_prompt],
            Tokenizer(),
            list(zip(text, family.encodings, strict=True)),
            clip_skip=request.clip_skip,
            emphasis=request.emphasis,
        )
    if family.zero_empty_negative and not request.negative_prompt:
        negative = Embedded(*(torch.zeros_like(part) for part in negative))

    def cond(embedded: Embedded, *, is_negative: bool) -> Cond:
        if family.vector is None:
            return Cond(embedded.tokens)
        return Cond(embedded.tokens, family.vector(embedded.pooled, request, unet.vector, is_negative))

    return cond(positive, is_negative=False), cond(negative, is_negative=True)
