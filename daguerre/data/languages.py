"""Names of things in other languages, in the ways that people type them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from .parquet import ParquetTable

ARTICLES = {
    "da": ("en", "et"), "de": ("ein", "eine", "der", "die", "das"), "en": ("a", "the"), "es": ("un", "una", "el", "la"),
    "fr": ("un", "une", "le", "la"), "hu": ("egy", "a"), "it": ("un", "una", "il", "la"), "nb": ("en", "et"),
    "nl": ("een", "de", "het"), "pt": ("um", "uma", "o", "a"), "sv": ("en", "ett"), "vi": ("một", "một con"),
    "zh": ("一个", "一只"),
}  # fmt: skip
# German, Russian and others bend colors by gender: any form is understood.
COLORS = "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"
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
AFTER = "es", "fr", "it", "pt"  # the color comes after the name
CLOSED = "ja", "zh"  # no space between words
ENDINGS = {"de": ("r", "s", "n"), "es": ("s",), "fr": ("e", "s")}  # of bent adjectives
KEYWORDS = 3  # of a list of them
COLUMNS = "concept", "locale", "label", "tags"


class Name(NamedTuple):
    """What a language calls a thing, and its keywords."""

    locale: str
    label: str
    tags: tuple[str, ...]


@cache
def translations(path: Path) -> Mapping[str, tuple[Name, ...]]:
    """Names by concept, a Unicode code point such as "1F34E", from a table of names; English ones are among them.

    Raises ValueError for a file without the columns concept, locale, label and tags.
    """
    table = ParquetTable(path)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise ValueError(f"{path} is no table of names: it has no column {', '.join(missing)}")
    found: dict[str, list[Name]] = {}
    for row in table.rows(list(COLUMNS)):
        name = Name(str(row["locale"]), str(row["label"]), tuple(map(str, row["tags"] or ())))
        found.setdefault(str(row["concept"]), []).append(name)
    return {concept: tuple(names) for concept, names in found.items()}


def foreign(names: tuple[Name, ...], style: str, rng: Random) -> str:
    """One of the names that is not English, as someone would type it: with an article or without, with a style or
    without, in lower case or as it is written. "" where there are none."""
    others = [name for name in names if not name.locale.startswith("en")]
    if not others:
        return ""
    name = rng.choice(others)
    said = name.label.lower() if rng.random() < 0.5 else name.label
    article = rng.choice(("", *ARTICLES.get(name.locale, ())))
    said = said if not article else article + ("" if name.locale in CLOSED else " ") + said
    return f"{said}, {style}" if style and rng.random() < 0.6 else said


def painted(locale: str, label: str, color: str, rng: Random) -> str:
    """A name with an English color in its own language: ("de", "Auto", "red") -> "rote Auto" or "rotes Auto"."""
    word = dict(zip(COLORS, ABROAD[locale].split(), strict=True))[color]
    word += rng.choice(("", *ENDINGS.get(locale, ())))
    first, second = (label, word) if locale in AFTER else (word, label)
    return first + ("" if locale in CLOSED else " ") + second
