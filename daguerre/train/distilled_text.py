"""CLIP's text tower taught by words as well as pictures: another encoder's sense of what is alike.

Distillation of similarities follows arXiv:1904.05068 (relations) and arXiv:2004.09813 (other languages).
Shape suffixes: B batch, W width of the teacher's vectors.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.pictures import Pictures
from ..models.clip import CLIPText
from ..models.vision import CLIPVision
from ..text.tokenizer import END, START, Tokenizer
from .contrastive import ContrastiveRecipe, Tokenize, Towers
from .phrasebook import SHARES, Phrasebook, Text
from .randomness import generator

log = logging.getLogger(__name__)
Encode = Callable[[Sequence[str]], Tensor]  # English phrases -> unit vectors (B, W)
SHARPNESS = 0.05  # of the softmax over similarities: what is nearest counts most
TOGETHER = 32  # texts of about the same length, padded to the longest
EVERY = 4  # steps between two with pictures, which cost most


class Pupil(Towers):
    """CLIP with two linear heads on the pooled text that only training needs."""

    def __init__(self, text: CLIPText, vision: CLIPVision, width: int, kinds: int):
        super().__init__(text, vision)
        pooled = text.config.projection or text.config.width
        self.meaning = nn.Linear(pooled, width)  # the teacher's vector
        self.kinds = nn.Linear(pooled, kinds)  # colors, counts, styles


@dataclass(frozen=True)
class Lexicon:
    """Texts, as token ids, with what they mean, as a teacher says: N texts, M meanings, K kinds."""

    groups: Mapping[str, range]  # places of texts, by the keys of SHARES
    ids: Sequence[npt.NDArray[np.uint16]]  # of each text, with start and end
    means: Tensor  # (N,) places of meanings
    vectors: Tensor  # (M, W), float16, unit length
    kinds: Tensor  # (N, K), 0 or 1; -1: nothing is known


def lexicon(book: Phrasebook, encode: Encode, cache: Path, context: int = 77) -> Lexicon:
    """The phrasebook in numbers. What the teacher says is kept in `cache`: each phrase is asked about once."""
    groups, texts = dict[str, range](), list[Text]()
    for key, said in book.items():
        groups[key] = range(len(texts), len(texts) + len(said))
        texts += said
    place = {phrase: i for i, phrase in enumerate(dict.fromkeys(t.means for t in texts))}
    known = {kind: i for i, kind in enumerate(sorted({k for t in texts for k in t.kinds or ()}))}
    kinds = torch.full((len(texts), max(1, len(known))), -1, dtype=torch.int8)
    kinds[[i for i, text in enumerate(texts) if text.kinds is not None]] = 0
    told = [(i, known[kind]) for i, text in enumerate(texts) for kind in text.kinds or ()]
    kinds[[i for i, _ in told], [kind for _, kind in told]] = 1
    tokenizer = Tokenizer()
    ids = [np.array([START, *tokenizer.encode(t.said)[: context - 2], END], np.uint16) for t in texts]
    vectors = _vectors(list(place), encode, cache)
    return Lexicon(groups, ids, torch.tensor([place[t.means] for t in texts]), vectors, kinds)


def _vectors(phrases: Sequence[str], encode: Encode, cache: Path) -> Tensor:
    """What the teacher says of each phrase (M, W): from the cache what is there, which then holds all."""
    known = dict[str, Tensor]()
    if cache.exists():
        with safe_open(cache, "pt") as kept:
            known = dict(zip(json.loads(kept.metadata()["phrases"]), kept.get_tensor("vectors"), strict=True))
    if new := [phrase for phrase in phrases if phrase not in known]:
        log.info("asking the teacher about %d phrases", len(new))
        known |= zip(new, encode(new).half(), strict=True)
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": torch.stack(list(known.values()))}, cache, {"phrases": json.dumps(list(known))})
    return torch.stack([known[phrase] for phrase in phrases])


class DistillationRecipe:
    """The loop's recipe: a batch of texts each step, and in one of EVERY steps `shown` pictures with captions too.

    A step's loss is how far pooled texts are from the teacher's vectors, by cosine and by who is near whom, how badly
    they tell the kinds, and CLIP's own loss.
    """

    def __init__(self, pupil: Pupil, words: Lexicon, shown: ContrastiveRecipe, batch: int):
        self.trained, self.words, self.shown, self.batch = pupil, words, shown, batch
        self.seed = shown.seed

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        index = self._drawn(step)[part.start : part.stop]
        index = index[torch.tensor([len(self.words.ids[i]) for i in index.tolist()]).argsort()]
        pooled = torch.cat([self.trained.text(self._padded(like)).pooled for like in torch.split(index, TOGETHER)])
        vectors = self.words.vectors[self.words.means[index]].to(pooled)
        cosine, relation = meaning_loss(pooled, self.trained.meaning(pooled), vectors)
        kinds = self.words.kinds[index].to(pooled.device)
        known = kinds[:, 0] >= 0
        told = F.binary_cross_entropy_with_logits(self.trained.kinds(pooled[known]), kinds[known].to(pooled))
        told = 5 * told if known.any() else pooled.new_zeros(())
        loss = cosine + relation + told
        figures = {"cosine": 1 - cosine.item(), "relation": relation.item(), "kinds": told.item()}
        if step % EVERY == 0:
            contrast, _ = self.shown.loss(step, range(self.shown.batch))
            loss, figures["contrast"] = loss + contrast / 2, contrast.item()
        return loss, figures

    def sample(self, path: Path) -> None:
        """As in training by pictures alone."""
        self.shown.sample(path)

    def _drawn(self, step: int) -> Tensor:
        """The texts of a step: from each group its share."""
        rng = generator(self.seed, "texts", step)
        groups = list(self.words.groups.items())
        whole = sum(SHARES[key] for key, _ in groups)
        parts = []
        for key, places in groups:
            count = round(self.batch * SHARES[key] / whole)
            parts.append(torch.randint(places.start, places.stop, (count,), generator=rng))
        rest = self.batch - sum(map(len, parts))
        first = groups[0][1]
        parts.append(torch.randint(first.start, first.stop, (max(0, rest),), generator=rng))
        return torch.cat(parts)[: self.batch]

    def _padded(self, index: Tensor) -> Tensor:
        """Token ids, no longer than the longest text: causal attention gives the same."""
        texts = [self.words.ids[i] for i in index.tolist()]
        used = max(map(len, texts))
        padded = np.full((len(texts), used), END, np.int64)
        for row, ids in zip(padded, texts, strict=True):
            row[: len(ids)] = ids
        return torch.from_numpy(padded).to(self.trained.log_scale.device)


def meaning_loss(pooled: Tensor, guessed: Tensor, vectors_BW: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cosine to the teacher's vectors, and how much the student's neighbors differ from the teacher's.

    The second is the mean divergence of softmax(similarities / SHARPNESS): of guesses with the teacher's vectors, and
    of pooled texts with each other, themselves left out.
    """
    guessed, pooled = F.normalize(guessed, dim=-1), F.normalize(pooled, dim=-1)
    cosine = 1 - (guessed * vectors_BW).sum(-1).mean()
    alike = vectors_BW @ vectors_BW.T / SHARPNESS
    own = torch.eye(len(pooled), dtype=torch.bool, device=pooled.device)
    far = torch.finfo(alike.dtype).min
    across = _divergence(guessed @ vectors_BW.T / SHARPNESS, alike)
    among = _divergence((pooled @ pooled.T / SHARPNESS).masked_fill(own, far), alike.masked_fill(own, far))
    return cosine, (across + among) / 2


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean")


def pupil_of(towers: Towers, words: Lexicon) -> Pupil:
    """The towers with new heads."""
    pupil = Pupil(towers.text, towers.vision, words.vectors.shape[1], words.kinds.shape[1])
    pupil.log_scale = towers.log_scale
    return pupil


def distillation(
    towers: Towers, words: Lexicon, pictures: Pictures, batch: int, seed: int, tokenize: Tokenize
) -> DistillationRecipe:
    """The recipe with a quarter as many pictures as texts."""
    pupil = pupil_of(towers, words)
    shown = ContrastiveRecipe(pupil, pictures, max(2, batch // 4), seed, tokenize)
    return DistillationRecipe(pupil, words, shown, batch)


def text_of(averaged: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The text encoder's own weights among those of a stage."""
    for name, value in averaged.items():
        if name.startswith("text."):
            yield name.removeprefix("text."), value
