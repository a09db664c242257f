"""A prompt for a picture: phrases of lists, ranked and joined by a CLIP."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..request import RequestError
from .clip import CLIP

LISTS = ("subject", "color", "style", "medium", "artist", "flavor")  # in the order of a prompt; each a file
TRIED = 8  # phrases of a list, the likeliest, that are tried in the prompt
KEPT = {"flavor": 3}  # phrases of a list that a prompt may have; one of the others
MOST = 50_000  # phrases of a list


@dataclass(frozen=True)
class Ranked:
    """A phrase, the cosine of its vector with the picture's, and its share in a softmax over its list."""

    phrase: str
    similarity: float
    share: float


@dataclass(frozen=True)
class Interrogation:
    """A prompt for a picture, its cosine with the picture, and the phrases of each list, the likeliest first."""

    prompt: str
    similarity: float
    ranked: Mapping[str, tuple[Ranked, ...]]


@dataclass(frozen=True)
class Ranker:
    """A CLIP that has read lists of phrases; made by `ranker`."""

    clip: CLIP
    phrases: Mapping[str, Sequence[str]]
    vectors: Mapping[str, Tensor]  # (N, P) of each list


def ranker(clip: CLIP, lists: Mapping[str, Sequence[str]]) -> Ranker:
    """Reads the lists once, so that each picture then costs little. The first list is of what can be shown.

    Raises RequestError for a list without phrases.
    """
    if not lists or not all(lists.values()):
        empty = next((name for name, phrases in lists.items() if not phrases), "phrases")
        raise RequestError(f"the list {empty!r} is empty; give it one phrase a line")
    return Ranker(clip, dict(lists), {name: clip.of_phrases(phrases) for name, phrases in lists.items()})


def interrogate(ranker: Ranker, picture: Image.Image, *, top: int = 5, start: str = "") -> Interrogation:
    """A prompt for a picture of mode RGB, and the `top` phrases of each list.

    The prompt begins with `start`, such as a captioner's sentence, or else with the first list's likeliest phrase. Of
    every other list, phrases that bring the whole prompt nearer to the picture are added: colors before the noun,
    others after a comma. Raises RequestError for a `top` below 1.
    """
    seen, ranked = _seen(ranker, picture, top)
    prompt, similarity = _completed(ranker, seen, ranked, start or next(iter(ranked.values()))[0].phrase)
    return Interrogation(prompt, similarity, {name: phrases[:top] for name, phrases in ranked.items()})


def prompts(ranker: Ranker, picture: Image.Image, count: int, *, start: str = "") -> tuple[str, ...]:
    """Prompts for a picture, for another judge to choose: one that begins with `start`, where it is given, and others
    that begin with the likeliest phrases of the first list."""
    seen, ranked = _seen(ranker, picture, count)
    begun = [start] * bool(start) + [phrase.phrase for phrase in next(iter(ranked.values()))]
    return tuple(dict.fromkeys(_completed(ranker, seen, ranked, one)[0] for one in begun[:count]))


def _seen(ranker: Ranker, picture: Image.Image, top: int) -> tuple[Tensor, dict[str, tuple[Ranked, ...]]]:
    if top < 1:
        raise RequestError(f"top is {top}; it has to be 1 or more")
    seen = ranker.clip.of_picture(picture)
    return seen, {name: _ranked(ranker, name, seen, max(top, TRIED)) for name in ranker.phrases}


def _completed(
    ranker: Ranker, seen: Tensor, ranked: Mapping[str, tuple[Ranked, ...]], prompt: str
) -> tuple[str, float]:
    """A prompt with the phrases that bring it nearer to the picture, and its cosine then."""
    similarity = (ranker.clip.of_phrases([prompt])[0] @ seen).item()
    for name in list(ranked)[1:]:
        for _ in range(KEPT.get(name, 1)):
            options = [joined(prompt, name, phrase.phrase) for phrase in ranked[name][:TRIED]]
            options = [option for option in options if option != prompt]
            if not options:
                break
            found = ranker.clip.of_phrases(options) @ seen
            best = int(found.argmax())
            if found[best].item() <= similarity:
                break
            prompt, similarity = options[best], found[best].item()
    return prompt, similarity


def joined(prompt: str, kind: str, phrase: str) -> str:
    """A prompt with one more phrase, unless it has that already: "a red apple" of "an apple" and the color "red"."""
    if re.search(rf"\b{re.escape(phrase)}\b", prompt):
        return prompt
    if kind != "color":
        return f"{prompt}, {phrase}"
    article, noun = re.fullmatch(r"(an? )?(.*)", prompt, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{'an ' if phrase[0] in 'aeio' else 'a '}{phrase} {noun}" if article else f"{phrase} {noun}"


def _ranked(ranker: Ranker, name: str, seen: Tensor, most: int) -> tuple[Ranked, ...]:
    cosines = ranker.vectors[name] @ seen
    shares = (cosines * ranker.clip.scale).softmax(dim=0)
    order = cosines.topk(min(most, len(cosines))).indices.tolist()
    phrases = ranker.phrases[name]
    return tuple(Ranked(phrases[i], cosines[i].item(), shares[i].item()) for i in order)


def phrase_lists(folder: Path | None = None) -> dict[str, list[str]]:
    """Lists of phrases, by the names of LISTS: those of a folder's files NAME.txt, or our own.

    A file has a phrase on each line; empty lines and those that begin with # are passed over. Raises RequestError for
    a folder with no such file, and for a file that is no such list.
    """
    place = folder or Path(str(files("daguerre") / "generate" / "phrases"))
    paths = {name: place / f"{name}.txt" for name in LISTS}
    there = {name: path for name, path in paths.items() if path.is_file()}
    if not there:
        raise RequestError(f"{place}: there is no list in it; lists are files called {', '.join(LISTS)} with .txt")
    return {name: _phrases(path) for name, path in there.items()}


def _phrases(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: it is not UTF-8 text; write one phrase a line") from error
    phrases = list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if not phrases:
        raise RequestError(f"{path}: there is no phrase in it; write one a line")
    if len(phrases) > MOST:
        raise RequestError(f"{path}: {len(phrases):,} phrases; the limit is {MOST:,}")
    return phrases
