"""What a text encoder reads without pictures, and what each phrase means in English.

Many texts may mean one phrase: a name in 28 languages means its English name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ..data.colors import COLORS, PAINTS
from ..data.layout import RELATIONS
from ..data.parquet import ParquetTable
from ..data.phrases import with_article
from ..data.wording import SceneWords, caption

SCENES, TEMPLATED = 8000, 6000  # sentences
SHARES = {"captions": 0.3, "words": 0.2, "names": 0.25, "scenes": 0.25}  # of a batch
ARTICLES = {
    "da": ("en", "et"), "de": ("ein", "eine", "der", "die", "das"), "en": ("a", "the"), "es": ("un", "una", "el", "la"),
    "fr": ("un", "une", "le", "la"), "hu": ("egy", "a"), "it": ("un", "una", "il", "la"), "nb": ("en", "et"),
    "nl": ("een", "de", "het"), "pt": ("um", "uma", "o", "a"), "sv": ("en", "ett"), "vi": ("một", "một con"),
    "zh": ("一个", "一只"),
}  # fmt: skip
# Of PAINTS, in the order red, orange, yellow, green, blue, purple, pink, brown; and of black and white. German, Russian
# and others bend them by gender: any form will be understood.
ABROAD = {
    "da": "rød orange gul grøn blå lilla lyserød brun sort hvid",
    "ja": "赤い オレンジ色の 黄色い 緑の 青い 紫の ピンクの 茶色い 黒い 白い",
    "de": "rote orange gelbe grüne blaue lila rosa braune schwarze weiße",
    "ko": "빨간 주황색 노란 초록색 파란 보라색 분홍색 갈색 검은 하얀",
    "es": "rojo naranja amarillo verde azul morado rosa marrón negro blanco",
    "fr": "rouge orange jaune vert bleu violet rose marron noir blanc",
    "it": "rosso arancione giallo verde blu viola rosa marrone nero bianco",
    "nl": "rode oranje gele groene blauwe paarse roze bruine zwarte witte",
    "pl": "czerwony pomarańczowy żółty zielony niebieski fioletowy różowy brązowy czarny biały",
    "pt": "vermelho laranja amarelo verde azul roxo rosa marrom preto branco",
    "ru": "красный оранжевый жёлтый зелёный синий фиолетовый розовый коричневый чёрный белый",
    "sv": "röd orange gul grön blå lila rosa brun svart vit",
    "uk": "червоний помаранчевий жовтий зелений синій фіолетовий рожевий коричневий чорний білий",
    "zh": "红色的 橙色的 黄色的 绿色的 蓝色的 紫色的 粉色的 棕色的 黑色的 白色的",
}  # fmt: skip
KEYWORDS = 3  # of a list of them
PAINTED = 6000  # names with a color, in other languages
AFTER = "es", "fr", "it", "pt"  # the color comes after the name
CLOSED = "ja", "zh"  # no space between words
ENDINGS = {"de": ("r", "s", "n"), "es": ("s",), "fr": ("e", "s")}  # of bent adjectives
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
    table = ParquetTable(path)
    if missing := {"concept", "locale", "label", "tags"} - set(table.columns):
        raise ValueError(f"{path} is no table of names: it has no column {', '.join(sorted(missing))}")
    rows = list(table.rows(list(table.columns)))
    rng = Random(seed)
    english = {row["concept"]: str(row["label"]) for row in rows if row["locale"] == "en"}
    for row in rows:
        means = english.get(row["concept"])
        if means is None:
            continue
        label = str(row["label"])
        yield Text(label, means)
        yield from (Text(f"{article} {label}", with_article(means)) for article in ARTICLES.get(row["locale"], ()))
        if row["tags"]:
            yield Text(", ".join(map(str, row["tags"][:KEYWORDS])), means)
    painted = [row for row in rows if row["locale"] in ABROAD and row["concept"] in english]
    for row in rng.choices(painted, k=PAINTED if painted else 0):
        color, said = rng.choice(list(zip((*PAINTS, "black", "white"), ABROAD[row["locale"]].split(), strict=True)))
        yield _painted(row["locale"], str(row["label"]), said, f"{color} {english[row['concept']]}", rng)


def _painted(locale: str, label: str, color: str, means: str, rng: Random) -> Text:
    color += rng.choice(("", *ENDINGS.get(locale, ())))
    first, second = (label, color) if locale in AFTER else (color, label)
    said = first + ("" if locale in CLOSED else " ") + second
    article = rng.choice(("", *ARTICLES.get(locale, ())))
    kinds = (f"{means.split()[0]} thing",)
    return Text(f"{article} {said}", with_article(means), kinds) if article else Text(said, means, kinds)
