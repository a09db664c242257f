"""What a model is asked to draw: prompts it was taught, combinations and concepts it was not, and free ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from .illustrations import Illustration

Taught = frozenset[tuple[str, str]]  # label and style words of every picture that the model learned to draw


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many pictures each part draws."""

    seen: int = 600
    held_out: int = 200  # and as many of unseen concepts
    varied: int = 12  # prompts that are drawn from many seeds
    seeds: int = 16
    scenes: int = 40  # of each task
    free: int = 100
    timed: int = 5


FULL = Amounts()
QUICK = Amounts(seen=48, held_out=16, varied=3, seeds=4, scenes=4, free=24, timed=2)


@dataclass(frozen=True)
class Group:
    """Pictures to draw of which there is a real one each."""

    name: str
    why: str
    items: tuple[Illustration, ...]


class Free(NamedTuple):
    prompt: str
    meaning: str  # in English, "" where the prompt is


def read_taught(path: Path) -> Taught:
    """Lines of LABEL, a tab, STYLE WORDS; # begins a comment. Raises ValueError that names the line."""
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            label, tab, style = line.partition("\t")
            if not tab:
                raise ValueError(f"{path}, line {number}: it should be LABEL, a tab, STYLE WORDS, not {line!r}")
            found.add((label.strip(), style.strip()))
    if not found:
        raise ValueError(f"{path} names no picture; each line should be LABEL, a tab, STYLE WORDS")
    return frozenset(found)


def everything(real: Sequence[Illustration]) -> Taught:
    """All training pictures, for a model that says nothing of what it was taught."""
    return frozenset((item.label, item.style) for item in real if item.split == "train" and item.concept)


def groups(
    real: Sequence[Illustration], taught: Taught, amounts: Amounts, judged: Callable[[Illustration], bool]
) -> list[Group]:
    """What has real counterparts. `judged` tells whether a concept can be judged at all.

    Raises ValueError when none of what was taught is in the table.
    """
    styles, labels = {style for _, style in taught}, {label for label, _ in taught}
    can = [item for item in real if item.concept and item.style in styles and judged(item)]
    seen = [item for item in can if item.split == "train" and (item.label, item.style) in taught]
    pairs = [i for i in can if i.split == "pair_holdout" and i.label in labels and (i.label, i.style) not in taught]
    concepts = [item for item in can if item.split == "concept_holdout" and item.label not in labels]
    if not seen:
        raise ValueError("no picture that the model was taught is among the table's training pictures: wrong lists?")
    wanted = (
        ("seen", "prompts that training taught", seen, amounts.seen),
        ("held-out pairs", "taught things in taught styles that were never seen together", pairs, amounts.held_out),
        ("unseen concepts", "things that no caption of training named", concepts, amounts.held_out),
    )
    return [Group(name, why, tuple(shuffled(items)[:count])) for name, why, items, count in wanted]


def shuffled(items: Sequence[Illustration]) -> list[Illustration]:
    """In an order that depends on nothing but captions."""
    return sorted(items, key=lambda item: sha256(item.caption.encode()).digest())


def free_prompts() -> list[Free]:
    """What newcomers type, from free-prompts.txt: a prompt a line, its English meaning behind a tab where needed."""
    lines = Path(__file__).with_name("free-prompts.txt").read_text(encoding="utf-8").splitlines()
    return [Free(*line.partition("\t")[::2]) for line in lines if line]
