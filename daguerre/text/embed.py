"""Prompts to text features: runs of weighted text -> chunks of tokens -> CLIP -> emphasis.

A text encoder reads 77 tokens at once: start, 75 of the prompt, end. Longer prompts are cut into chunks that
are encoded one by one and joined along the tokens, so a chunk's features depend on nothing but that chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.clip import CLIPText
from ..request import Emphasis, RequestError
from .prompt import BREAK, Run, parse
from .tokenizer import END, START, Tokenizer


class Chunk(NamedTuple):
    """What an encoder reads at once: start, the prompt's tokens, end, padding."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]  # 1 for start, end and padding


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a model family uses one of its text encoders."""

    skip: int = 1  # which layer's output the U-Net was trained on, counted from the end; 1 = the last
    final_norm: bool = True  # whether the encoder's final norm follows
    pad: int = END  # the token after the first end
    fixed: bool = False  # whether a request's clip skip leaves `skip` alone


class Embedded(NamedTuple):
    tokens: Tensor  # (1, T, D), T = 77 per chunk
    pooled: Tensor  # (1, P), of the first chunk, without emphasis


def tokenize(
    prompt: str, tokenizer: Tokenizer, *, context: int = 77, backtrack: int = 20, emphasis: Emphasis = "original"
) -> list[Chunk]:
    """Cuts a prompt into chunks of `context` tokens, at least one.

    If a full chunk has a comma among its last `backtrack` tokens, what follows it moves to the next chunk; so does a
    word that is trained to be several tokens, if it would be cut.
    Emphasis "none" takes brackets as text; "ignore" reads them but weighs everything 1.
    """
    room = context - 2
    comma = tokenizer.encode(",")[0]
    lengths = {ids.start: len(ids) for ids in tokenizer.whole}
    chunks: list[Chunk] = []
    ids: list[int] = []
    weights: list[float] = []
    for run in runs(prompt, emphasis):
        if run == BREAK:
            chunks.append(fill(ids, weights, room))
            ids, weights = [], []
            continue
        for token in tokenizer.encode(run.text):
            if len(ids) == room:
                cut = room
                if token != comma and comma in (tail := ids[max(0, room - backtrack) :][::-1]):
                    cut -= tail.index(comma)
                chunks.append(fill(ids[:cut], weights[:cut], room))
                ids, weights = ids[cut:], weights[cut:]
            if ids and len(ids) + lengths.get(token, 1) > room:
                chunks.append(fill(ids, weights, room))
                ids, weights = [], []
            ids.append(token)
            weights.append(1.0 if emphasis == "ignore" else run.weight)
    if ids or not chunks:
        chunks.append(fill(ids, weights, room))
    return chunks


def runs(prompt: str, emphasis: Emphasis) -> list[Run]:
    """The runs of a prompt, whose brackets may be mere text."""
    return [Run(prompt, 1.0)] if emphasis == "none" else parse(prompt)


def fill(ids: list[int], weights: list[float], room: int) -> Chunk:
    free = room - len(ids)
    return Chunk((START, *ids, *[END] * (free + 1)), (1.0, *weights, *[1.0] * (free + 1)))


def pad_to(chunks: Sequence[Chunk], count: int) -> list[Chunk]:
    """The chunks, followed by empty ones up to `count`."""
    empty = fill([], [], len(chunks[0].ids) - 2)
    return [*chunks, *[empty] * (count - len(chunks))]


def encode(
    chunks: list[Chunk], encoder: CLIPText, encoding: Encoding, *, clip_skip: int = 1, emphasis: Emphasis = "original"
) -> Embedded:
    """Encodes chunks one by one, on the encoder's device and in its dtype; gradients flow.

    A `clip_skip` of n ends n - 1 layers before the family's own choice. Raises RequestError if none is there.
    """
    skip = encoding.skip if encoding.fixed else encoding.skip + clip_skip - 1
    if skip > len(encoder.layers):
        most = len(encoder.layers) - encoding.skip + 1
        raise RequestError(f"clip_skip is {clip_skip}; this model's text encoder allows at most {most}")
    tokens, pooled = [], []
    for chunk in chunks:
        end = chunk.ids.index(END) + 1
        ids = [*chunk.ids[:end], *[encoding.pad] * (len(chunk.ids) - end)]
        states = encoder(torch.tensor([ids], device=encoder.token.weight.device))
        z = states.hidden[-skip]
        tokens.append(emphasize(encoder.norm(z) if encoding.final_norm else z, chunk.weights, emphasis))
        pooled.append(states.pooled)
    return Embedded(torch.cat(tokens, dim=1), pooled[0])


def emphasize(z: Tensor, weights: Sequence[float], emphasis: Emphasis) -> Tensor:
    """Scales each token's features (1, T, D) by its weight; "original" then restores the chunk's mean."""
    if all(weight == 1 for weight in weights):
        return z
    weighted = z * torch.tensor(weights, device=z.device)[:, None]  # in float32 at least
    if emphasis == "original":
        weighted = weighted * (z.mean(dtype=weighted.dtype) / weighted.mean())
    return weighted.to(z.dtype)


def embed(
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    encoders: Sequence[tuple[CLIPText, Encoding]],
    *,
    clip_skip: int = 1,
    emphasis: Emphasis = "original",
) -> list[Embedded]:
    """Each prompt by every encoder of a model: token features side by side, pooled features of the last one.

    The prompts, such as a positive and a negative one, are padded with empty chunks to equal chunk counts.
    """
    context = encoders[0][0].config.context
    chunked = [tokenize(prompt, tokenizer, context=context, emphasis=emphasis) for prompt in prompts]
    most = max(map(len, chunked))
    embedded = []
    for chunks in chunked:
        padded = pad_to(chunks, most)
        parts = [encode(padded, *pair, clip_skip=clip_skip, emphasis=emphasis) for pair in encoders]
        embedded.append(Embedded(torch.cat([part.tokens for part in parts], dim=-1), parts[-1].pooled))
    return embedded
