"""Captions of scenes, in the many ways that people type them."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from .phrases import in_style, plural, with_article

NUMBERS = {2: "two", 3: "three", 4: "four"}
PLACES = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
}
ENDS = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
OPENINGS = ("a picture of", "picture of", "an image of", "a drawing of")


@dataclass(frozen=True)
class SceneWords:
    """What a caption has to say: (name, color or None) of each thing, and what is around them."""

    things: tuple[tuple[str, str | None], ...]
    background: str
    style: str
    relation: str | None = None


def caption(words: SceneWords, rng: Random) -> str:
    """One way to say it, in lower case but for names. A white background is named now and then, others always."""
    said, chance = _things(words, rng), rng.random()
    if chance < 0.15:
        said = rng.choice(in_style(said, words.style))
    if words.background != "white" or rng.random() < 0.3:
        said = _on_background(said, words.background, rng)
    if chance < 0.4:
        return said
    if chance < 0.5:
        return f"{rng.choice(OPENINGS)} {said}"
    return f"{said}, {words.style}" if chance < 0.95 else f"{words.style}, {said}"


def _on_background(said: str, color: str, rng: Random) -> str:
    form = rng.choice(("on {a}", "on {a}", "on {a}", "on {bare}", ", {bare}"))
    bare = f"{color} background"
    return f"{said} {form.format(a=with_article(bare), bare=bare)}".replace(" ,", ",")


def _things(words: SceneWords, rng: Random) -> str:
    names = [name if color is None else f"{color} {name}" for name, color in words.things]
    if words.relation:
        return _placed(names[0], names[1], words.relation, rng)
    if len(names) == 1:
        return _single(*words.things[0], rng)
    kinds = Counter(names)
    if len(kinds) == 1:
        return _counted(names[0], len(names), rng)
    one, other = rng.sample(names, 2)
    form = rng.choice(("{} and {}", "{} and {}", "{} and {}", "{} with {}", "{} next to {}", "{}, {}"))
    if form != "{}, {}":
        one, other = with_article(one), with_article(other)
    return form.format(one, other)


def _single(name: str, color: str | None, rng: Random) -> str:
    if color is not None and rng.random() < 0.12:
        return f"{with_article(name)} that is {color}"
    bare = name if color is None else f"{color} {name}"
    return with_article(bare) if rng.random() < 0.8 else bare


def _counted(name: str, count: int, rng: Random) -> str:
    number = NUMBERS[count] if rng.random() < 0.7 else str(count)
    form = rng.choice(("{} {}", "{} {}", "{} {}", "a group of {} {}", "exactly {} {}"))
    return form.format(number, plural(name))


def _placed(first: str, second: str, relation: str, rng: Random) -> str:
    one, other = with_article(first), with_article(second)
    if rng.random() < 0.2:
        start, end = ENDS[relation]
        where = "at" if relation in ("above", "below") else "on"
        return f"{one} {where} the {start} and {other} {where} the {end}"
    return f"{one} {rng.choice(PLACES[relation])} {other}"
