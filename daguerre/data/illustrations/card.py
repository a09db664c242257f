"""The data card: what is in the tables, whose work it is, how it was made and what is wrong with it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..packages import Package
from .raster import QUALITY
from .sets import LICENSES, Style
from .splits import CONCEPTS, ORDER, PAIRS

CARD = """# Illustrations of things in {styles} styles

{tables}

One row a picture: `image` (WebP, {size} x {size} pixels with transparency), `caption`, `label`, `tags`, `style`,
`style_words`, `family`, `group`, `subgroup`, `concept` (Unicode code point without skin tone; none for what has no
emoji), `mono` (black only), `coverage` (share of opaque pixels), `author`, `licence`, `source`, `split`.
`names.parquet` holds what Unicode's CLDR calls each concept: `concept`, `locale` (28), `label`, `tags`.

## Pictures by style and split

{counts}

## Credits and licenses

{credits}
- names and keywords: emojibase-data by Miles Johnson, [MIT](https://github.com/milesj/emojibase), from Unicode CLDR,
  Copyright Unicode, Inc., [Unicode License v3](https://www.unicode.org/license.txt)

Changes: drawn as pixels, resized, clip art trimmed to its content; captions are ours, made of names. Who shares
pictures or what is made of them gives these credits; CC BY 4.0 asks for creator, license and that changes were made,
Apache-2.0 and MIT for their texts. Authors of single clip-art pictures are in the column `author`. Names of sets,
emoji vendors and programs may be trade marks of their owners; no brand logos are included on purpose.

## How it was made

`daguerre data build illustrations` fetched these packages and compared their SHA-256:

{packages}

Curves were drawn by resvg at twice the size, reduced by Lanczos's filter with alpha multiplied in, saved as WebP of
quality {quality}. Names come from code points where a package tells them, else from the drawing's name or second
names; the glued names of FxEmojis from a table. Left out are flags, keycaps, arrows, letters, symbols, brand logos,
and of the clip art icons, maps, cards, weapons and what is not marked as public domain. A drawing that a style has
twice is one row, the other name is among its `tags`.{missing}

## Splits

- `concept_holdout`: {concepts} concepts in no style, nor clip art whose label or keywords name them.
- `pair_holdout`: {pairs} concepts in one family of drawings each; families share outlines, so the styles of one are
  held out together.
- `val`: concepts with SHA-1 of "val|CODE" in the lowest hundredth, and what has no concept by its label.
- `train`: the rest. Skin-tone variants go where their concept goes; a drawing of several concepts where the strictest
  goes.

## Known flaws

- About one in five clip-art captions is vague or wrong: titles by many authors, some of them jokes or Italian; many
  share one label ("person", "smiley"). Some clip art is dated in what it shows.
- Gestures, families and jobs follow Unicode's names, which say man, woman or person where drawings differ little or
  not.
- Some concepts look alike (dvd and optical disk; globes; moons; clocks), so that no figure reaches 100 %.
- Emoji are yellow or of one default tone of skin in the main table; `tones` has the five tones in seven styles.
- Mirrored drawings (a hand that points right) are mirrored by the package, not drawn anew.
"""


@dataclass(frozen=True)
class Made:
    """What was built: styles, pixels a side, keys of styles that could not be fetched, and the package of names."""

    styles: tuple[Style, ...]
    size: int
    missing: tuple[str, ...]
    names: Package


def card(made: Made, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The text of README.md for tables of rows by file name."""
    present = [style for style in made.styles if style.key not in made.missing]
    packages = [*(style.package for style in present), made.names]
    told = f"\n\nMissing in this build, for want of a client: {', '.join(made.missing)}." if made.missing else ""
    return CARD.format(
        styles=len(present),
        tables="\n".join(f"- `{name}`: {len(rows):,} pictures" for name, rows in tables.items()),
        size=made.size,
        counts="\n\n".join(f"`{name}`\n\n{_counts(rows)}" for name, rows in tables.items() if rows),
        credits="\n".join(_credit(style) for style in present),
        packages="\n".join(f"- {package}, SHA-256 {package.sha256}" for package in dict.fromkeys(packages)),
        quality=QUALITY,
        missing=told,
        concepts=len(CONCEPTS),
        pairs=sum(len(codes) for codes in PAIRS.values()),
    )


def _counts(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = Counter((row["style"], row["split"]) for row in rows)
    lines = [("style", "license", *ORDER, "all"), ("---", "---", *["---:"] * (len(ORDER) + 1))]
    for style, licence in dict.fromkeys((row["style"], row["licence"]) for row in rows):
        numbers = [cells[style, split] for split in ORDER]
        lines.append((style, licence, *(f"{number:,}" for number in (*numbers, sum(numbers)))))
    sums = [sum(cells[style, split] for style in {s for s, _ in cells}) for split in ORDER]
    lines.append(("all", "", *(f"{number:,}" for number in (*sums, sum(sums)))))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _credit(style: Style) -> str:
    return f"- {style.key} ({style.words}): {style.author}, {style.link}, [{style.licence}]({LICENSES[style.licence]})"
