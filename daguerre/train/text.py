"""Captions to what steers a U-Net, in batches and with gradients where a text encoder learns."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.denoiser import Cond
from ..families.catalog import aesthetic_vector, features, size_vector
from ..families.model import Model
from ..request import TextToImage
from ..text.embed import Embedded, pad_to, tokenize
from ..text.tokenizer import END

AESTHETIC = 6.0  # what the SDXL refiner is told of a good picture


class Framing(NamedTuple):
    """How a picture was brought to its size, in pixels (arXiv:2307.01952, section 2.2)."""

    original: tuple[int, int]  # width, height
    corner: tuple[int, int]  # left, top of the crop
    size: tuple[int, int]  # width, height of what the network sees


def embed(model: Model, captions: Sequence[str], clip_skip: int = 1) -> Embedded:
    """Token features (B, T, D), as many chunks for all as the longest caption needs, and pooled text (B, P).

    Captions are plain text: brackets weigh nothing.
    """
    context = model.text[0].config.context
    chunked = [tokenize(c, model.tokenizer, context=context, emphasis="none") for c in captions]
    most = max(map(len, chunked))
    columns = list(zip(*(pad_to(chunks, most) for chunks in chunked), strict=True))
    tokens, pooled = [], []
    for encoder, encoding in zip(model.text, model.family.encodings, strict=True):
        skip = encoding.skip if encoding.fixed else encoding.skip + clip_skip - 1
        states = []
        for column in columns:
            ends = [chunk.ids.index(END) + 1 for chunk in column]
            ids = [[*c.ids[:e], *[encoding.pad] * (context - e)] for c, e in zip(column, ends, strict=True)]
            states.append(encoder(torch.tensor(ids, device=encoder.token.weight.device)))
        hidden = [state.hidden[-skip] for state in states]
        tokens.append(torch.cat([encoder.norm(z) if encoding.final_norm else z for z in hidden], dim=1))
        pooled.append(states[0].pooled)
    return Embedded(torch.cat(tokens, dim=-1), pooled[-1])


def steering(model: Model, embedded: Embedded, framings: Sequence[Framing]) -> Cond:
    """The condition of a batch: token features, and the vector that the family makes of pooled text and size."""
    family, width = model.family, model.unet.config.vector
    if family.vector is None:
        return Cond(embedded.tokens)
    rows = []
    for pooled, framing in zip(embedded.pooled[:, None], framings, strict=True):
        before = [*framing.original[::-1], *framing.corner[::-1]]
        if family.vector is size_vector:
            rows.append(features(pooled, [*before, *framing.size[::-1]], width))
        elif family.vector is aesthetic_vector:
            rows.append(features(pooled, [*before, AESTHETIC], width))
        else:
            rows.append(family.vector(pooled, TextToImage(prompt=""), width, False))
    return Cond(embedded.tokens, torch.cat(rows))


def padded(tokens: Sequence[Tensor], empty: Tensor) -> Tensor:
    """Token features (1, T_i, D) of unlike length as one batch; `empty` (1, T, D), the empty chunk, fills them up."""
    most = max(t.shape[1] for t in tokens)
    return torch.cat([torch.cat([t, *[empty] * ((most - t.shape[1]) // empty.shape[1])], dim=1) for t in tokens])
