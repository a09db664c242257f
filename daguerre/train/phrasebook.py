"""What a text encoder reads without pictures, and what each phrase means in English.

Many texts may mean one phrase: a name in 28 languages means its English name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ..data.colors import COLORS, PAINTS
from ..data.languages import ABROAD, ARTICLES, KEYWORDS, painted, translations
from ..data.languages import COLORS as ABROAD_COLORS
from ..data.layout import RELATIONS
from ..data.phrases import with_article
from ..data.wording import SceneWords, caption

SCENES, TEMPLATED = 8000, 6000  # sentences
SHARES = {"captions": 0.3, "words": 0.2, "names": 0.25, "scenes": 0.25}  # of a batch
PAINTED = 6000  # names with a color, in other languages
FORMS = ("a {w}", "{c} {w}", "a {c} {w}", "{w}, {s}", "a {a} {w} wearing a {t}", "a {w} on a {c} background",
         "a {w} and a {t}", "two {w}s")  # fmt: skip
MOODS = (
    "sleepy", "happy", "sad", "angry", "tiny", "giant", "old", "young", "cute", "scary", "fluffy", "golden",
    "wooden", "broken",
)  # fmt: skip


@dataclass(frozen=True)
class Text:
    """`means` is the English phrase that a teacher knows; `kinds` are facts of a scene ("count 3", "on blue")."""

    said: str
    means: str
    kinds: tuple[str, ...] | None = None  # None: nothing is known


Phrasebook = Mapping[str, Sequence[Text]]


def phrasebook(rows: Sequence[Mapping[str, Any]], names: Path | None, words: Sequence[str], seed: int) -> Phrasebook:
    """All texts, by the keys of SHARES; the same for the same arguments.

    `rows` are of a table of captioned pictures; `names` is a Parquet file with columns concept, locale, label, tags;
    `words` are English. Raises ValueError for a table of names without a column.
    """
    rng = Random(seed)
    styles = sorted({str(row["style_words"]) for row in rows if row["style_words"]})
    things = sorted({str(row["label"]) for row in rows if ":" not in str(row["label"])})
    whole = [(str(row["caption"]), f", {row['style_words']}") for row in rows]
    said = dict.fromkeys(text for own, style in whole for text in (own, own.removesuffix(style)))
    tags = sorted({str(t) for row in rows for t in row.get("tags") or []})
    book = {
        "captions": [Text(s, s) for s in [*said, *tags]],
        "words": [*(Text(w, w) for w in words), *_templated(words, things, styles, rng)],
        "scenes": [_scene(things, styles, rng) for _ in range(SCENES if things and styles else 0)],
        "names": list(_names(names, seed)) if names else [],
    }
    return {key: texts for key, texts in book.items() if texts}


def _templated(words: Sequence[str], things: Sequence[str], styles: Sequence[str], rng: Random) -> Iterable[Text]:
    for _ in range(TEMPLATED if words and things and styles else 0):
        parts = {"w": rng.choice(words), "c": rng.choice(list(COLORS)), "s": rng.choice(styles)}
        said = rng.choice(FORMS).format(**parts, a=rng.choice(MOODS), t=rng.choice(things))
        yield Text(said, said)


def _scene(things: Sequence[str], styles: Sequence[str], rng: Random) -> Text:
    """A sentence of one to four things, with colors, and what a picture of it would have to show."""
    count = rng.choice((1, 1, 1, 2, 2, 3, 4))
    mixed = len(things) > 1 and rng.random() < 0.5  # two different things
    names = rng.sample(things, 2) if mixed else [rng.choice(things)] * count
    color = rng.random() < 0.6
    paints = [rng.choice(list(PAINTS)) if color else None for _ in names]
    if not mixed:
        paints = paints[:1] * count
    background, style = rng.choice(list(COLORS)), rng.choice(styles)
    relation = rng.choice(RELATIONS) if mixed and rng.random() < 0.4 else None
    scene = SceneWords(tuple(zip(names, paints, strict=True)), background, style, relation)
    said = caption(scene, rng)
    kinds = {f"{p} thing" for p in paints if p} | {f"count {len(names)}"}
    kinds |= {f"on {background}"} if f"{background} background" in said else set()
    kinds |= {style} if style in said else set()
    return Text(said, said, tuple(sorted(kinds)))


def _names(path: Path, seed: int) -> Iterable[Text]:
    """Names and keywords of things in other languages, with articles; each means the English name."""
    rng = Random(seed)
    english = {}
    for concept, names in translations(path).items():
        english[concept] = next((name.label for name in names if name.locale == "en"), None)
    known = [(name, means) for key, means in english.items() if means for name in translations(path)[key]]
    for name, means in known:
        yield Text(name.label, means)
        yield from (Text(f"{article} {name.label}", with_article(means)) for article in ARTICLES.get(name.locale, ()))
        if name.tags:
            yield Text(", ".join(name.tags[:KEYWORDS]), means)
    paintable = [(name, means) for name, means in known if name.locale in ABROAD]
    for name, thing in rng.choices(paintable, k=PAINTED if paintable else 0):
        color = rng.choice(ABROAD_COLORS)
        said, article = painted(name.locale, name.label, color, rng), rng.choice(("", *ARTICLES.get(name.locale, ())))
        means = f"{color} {thing}"
        kinds = (f"{color} thing",)
        yield Text(f"{article} {said}", with_article(means), kinds) if article else Text(said, means, kinds)
