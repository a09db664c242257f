"""Textual inversion (arXiv:2208.01618): a new word whose token vectors are trained and all else stays as it is."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..checkpoints.identify import FLOATS
from ..families.model import Model
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.durable import durable_write
from ..files.reader import open_checkpoint
from ..text.tokenizer import Tokenizer
from .change import AdapterError
from .lora import seeded
from .picture_embedding import is_picture, open_picture

FORBIDDEN = "()[]\\:"  # they mean something in a prompt
MOST = 75  # vectors: more than one chunk holds could not stand together
SDXL_KEYS = {"text": "clip_l", "text2": "clip_g"}
ANONYMOUS = ("emb_params", "string_to_param.*")  # keys that do not tell the word
MARK = "daguerre"  # in a file's metadata: word and what the maker said of it, as JSON
FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 1280: "SDXL's second text encoder"}


class WithWord(Tokenizer):
    """A tokenizer that knows one word more; whether letters are large or small does not matter, as with any word."""

    def __init__(self, inner: Tokenizer, word: str, ids: range):
        self.inner, self.ids = inner, ids
        self.whole = (*inner.whole, ids)
        spaced = r"\s+".join(re.escape(piece) for piece in word.split())
        start, end = (r"\b" if letter.isalnum() or letter == "_" else "" for letter in (word[0], word[-1]))
        self.pattern = re.compile(start + spaced + end, re.IGNORECASE)

    def encode(self, text: str) -> list[int]:
        first, *others = self.pattern.split(text)
        ids = self.inner.encode(first)
        for piece in others:
            ids += [*self.ids, *self.inner.encode(piece)]
        return ids


class TextualInversion(nn.Module):
    """A word and its vectors in each text encoder: parameters `vectors.text`, `vectors.text2`, each (count, width)."""

    def __init__(self, word: str, vectors: Mapping[str, Tensor]):
        super().__init__()
        self.word = " ".join(word.split())
        if not self.word or any(letter in FORBIDDEN or not letter.isprintable() for letter in self.word):
            raise AdapterError(f"{word!r:.100} cannot be a word of prompts; choose one without any of {FORBIDDEN}")
        counts = {len(values) for values in vectors.values()}
        if len(counts) != 1 or not 0 < max(counts) <= MOST:
            raise AdapterError(f"the word {self.word!r} should have 1 to {MOST} vectors, equally many in each encoder")
        self.vectors = nn.ParameterDict(dict(vectors))

    @classmethod
    def new(cls, model: Model, word: str, vectors: int, initializer: str, seed: int) -> Self:
        """Vectors that start as those of the initializer's tokens, again from the first where there are fewer.

        With "", they are random and as long as the vocabulary's are on average. Raises AdapterError for an initializer
        of more tokens than vectors.
        """
        ids, found = Tokenizer().encode(initializer), {}
        if len(ids) > vectors:
            raise AdapterError(f"the initializer {initializer!r} is {len(ids)} tokens long; take so many vectors")
        for part, encoder in zip(("text", "text2"), model.text, strict=False):
            table = encoder.token.weight.detach().float().cpu()
            if ids:
                found[part] = table[[ids[i % len(ids)] for i in range(vectors)]].clone()
            else:
                noise = torch.randn(vectors, table.shape[1], generator=seeded(seed, part))
                found[part] = noise * (table.norm(dim=1).mean() / noise.norm(dim=1, keepdim=True))
        return cls(word, found).to(model.device)

    @contextmanager
    def attach(self, model: Model) -> Iterator[Model]:
        """A model that knows the word, for the body; for several words, attach to the model that this yields.

        The weights are not touched, and gradients flow to the vectors. Raises AdapterError for vectors of other width.
        """
        parts = dict(zip(("text", "text2"), model.text, strict=False))
        widths = {part: encoder.config.width for part, encoder in parts.items()}
        own = {part: values.shape[1] for part, values in self.vectors.items()}
        if own != widths:
            made = " and ".join(FAMILIES.get(width, f"width {width}") for width in own.values())
            raise AdapterError(
                f"the word {self.word!r} has vectors of width {list(own.values())}, made for {made}; this model's text "
                f"encoders ({model.family.title}) have {list(widths.values())}"
            )
        known = model.tokenizer
        first = known.ids.stop if isinstance(known, WithWord) else max(e.config.vocabulary for e in model.text)
        ids, hooks = range(first, first + len(self.vectors["text"])), []
        try:
            for part, encoder in parts.items():
                before, after = _hooks(ids, self.vectors[part])
                hooks += [encoder.token.register_forward_pre_hook(before), encoder.token.register_forward_hook(after)]
            yield replace(model, tokenizer=WithWord(known, self.word, ids))
        finally:
            for handle in hooks:
                handle.remove()

    def save(self, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
        """A safetensors file: for one text encoder a tensor named as the word, for two clip_l and clip_g.

        diffusers reads it so; A1111 takes the file's name for the word. `metadata` is any JSON object.
        """
        values = {part: vectors.detach().float().cpu().contiguous() for part, vectors in self.vectors.items()}
        lone = len(values) == 1
        tensors = {self.word if lone else SDXL_KEYS[part]: vectors for part, vectors in values.items()}
        noted = {MARK: json.dumps({**(metadata or {}), "word": self.word}), "format": "pt"}
        durable_write(Path(path), lambda target: save_file(tensors, target, noted))

    @classmethod
    def load(cls, path: Path | str, model: Model, word: str = "") -> Self:
        """A word for this model from a file of A1111 (.pt, .safetensors, picture), diffusers or our own, on its device.

        `word` overrides what the file calls it; files of A1111 are called by their own name. Raises AdapterError,
        naming file and key, for a file that is damaged, not finite, or made for another kind of model.
        """
        path = Path(path)
        try:
            checkpoint = open_picture(path) if path.is_file() and is_picture(path) else open_checkpoint(path)
        except CheckpointError as fault:
            raise AdapterError(str(fault)) from None
        keys = _keys(checkpoint)
        vectors = {part: _checked(path, key, checkpoint.tensor(key)) for part, key in keys.items()}
        widths = {p: encoder.config.width for p, encoder in zip(SDXL_KEYS, model.text, strict=False)}
        for part, values in vectors.items():
            if values.shape[1] != widths.get(part) or len(vectors) != len(widths):
                made = FAMILIES.get(values.shape[1], "another model") if len(vectors) == 1 else "Stable Diffusion XL"
                raise AdapterError(
                    f"{path}: {keys[part]!r}: vectors of width {values.shape[1]}, made for {made}; this model "
                    f"({model.family.title}) has text encoders of width {list(widths.values())}"
                )
        found = cls(word or _word(checkpoint, keys["text"]), vectors)
        return found.eval().requires_grad_(requires_grad=False).to(model.device)


def _hooks(ids: range, vectors: Tensor) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Before the token table is asked, tokens of these ids are put out of its sight; then they get their vectors."""
    asked: list[Tensor] = []

    def before(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        asked[:] = inputs
        ours = (inputs[0] >= ids.start) & (inputs[0] < ids.stop)
        return (inputs[0].masked_fill(ours, 0),)

    def after(_: nn.Module, inputs: tuple[Tensor], embedded: Tensor) -> Tensor:
        place = asked[0] - ids.start
        ours = (place >= 0) & (place < len(ids))
        return torch.where(ours[..., None], vectors.to(embedded)[place.clamp(0, len(ids) - 1)], embedded)

    return before, after


def _keys(checkpoint: Checkpoint) -> dict[str, str]:
    """By part of the model, the tensor that holds its vectors."""
    if checkpoint.tensors.keys() == set(SDXL_KEYS.values()):
        return SDXL_KEYS
    if len(checkpoint.tensors) == 1:
        return {"text": next(iter(checkpoint.tensors))}
    count = len(checkpoint.tensors)
    reason = f"no textual inversion: it holds {count} tensors, and there should be one, or clip_l and clip_g"
    raise AdapterError(f"{checkpoint.path}: {reason}")


def _word(checkpoint: Checkpoint, key: str) -> str:
    try:
        told = json.loads(checkpoint.metadata.get(MARK, "{}"))
    except (ValueError, RecursionError):
        told = {}
    if isinstance(told, dict) and isinstance(told.get("word"), str):
        return str(told["word"])
    return checkpoint.path.stem if key in (*ANONYMOUS, *SDXL_KEYS.values()) else key


def _checked(path: Path, key: str, values: Tensor) -> Tensor:
    if values.dtype not in FLOATS or values.ndim not in (1, 2) or not values.numel():
        raise AdapterError(f"{path}: {key!r}: {list(values.shape)} of {values.dtype} are no vectors of tokens")
    if not torch.isfinite(values).all():
        raise AdapterError(f"{path}: {key!r}: holds numbers that are not finite (NaN or infinity); do not use it")
    return values.float().reshape(-1, values.shape[-1]).clone()
