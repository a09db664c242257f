"""What each drawing shows: by its code point, its name, or a second name."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .fxemoji import labels as fxemoji_labels
from .iconify import IconSet
from .names import Concept
from .sets import Style

GROUPS = frozenset(
    {"smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects"}
)
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")  # 1 to 5, after Fitzpatrick's scale
FACE = "face"  # FxEmojis leaves it out: "angry" is the angry face
PICTOGRAPHS = range(0x1F300, 0x1FB00)


@dataclass(frozen=True)
class Entry:
    """A drawing and what it shows; `concept` is None for what has no emoji."""

    style: Style
    name: str
    data: str | bytes
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str | None
    concept: str | None
    author: str
    tone: str = ""
    """ "medium-dark skin tone", or "" where skin has no tone of its own."""

    @property
    def words(self) -> tuple[str, ...]:
        """The label and the keywords."""
        return (self.label, *self.tags)


def slug(name: str) -> str:
    """A name in the spelling of Iconify: "man’s shoe" is "mans-shoe"."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub("[’']", "", name.lower())).strip("-")


def code_book(sets: Iterable[IconSet], concepts: Iterable[Concept]) -> dict[str, str]:
    """Code points by slug: of the sets that tell them, of their second names, of Unicode's names old and new."""
    book: dict[str, str] = {}
    sets = list(sets)
    for icons in sets:
        for code, name in icons.codes.items():
            book.setdefault(name, code)
    for icons in sets:
        for alias, name in icons.aliases.items():
            if name in book:
                book.setdefault(alias, book[name])
    concepts = list(concepts)
    for concept in concepts:
        book.setdefault(slug(concept.label), concept.code)
    for concept in concepts:
        if "-" not in concept.code and (name := unicodedata.name(chr(int(concept.code, 16)), "")):
            book.setdefault(slug(name), concept.code)
    return book


def entries(style: Style, icons: IconSet, book: Mapping[str, str], concepts: Mapping[str, Concept]) -> Iterator[Entry]:
    """The drawings of things and people of a set, with every skin tone it has, in the order of their labels."""
    if style.key == "fxemoji":
        codes, extras = _glued(icons, book, concepts)
    else:
        codes, extras = _coded(icons, book, concepts), dict(_extras(icons, concepts))
    found = []
    for concept in concepts.values():
        if concept.group not in GROUPS:
            continue
        entry = Entry(
            style, concept.code, "", concept.label, concept.tags, concept.group, concept.subgroup, concept.code,
            style.author,
        )  # fmt: skip
        for code, tones in ((concept.code, ()), *concept.tones.items()):
            if name := codes.get(code):
                tone = " and ".join(f"{TONES[t - 1]} skin tone" for t in dict.fromkeys(tones))
                found.append(replace(entry, name=code, data=icons.drawings[name].data, tone=tone))
    for name, label in extras.items():
        data = icons.drawings[name].data
        found.append(Entry(style, name, data, label, (), "extra", None, None, style.author))
    yield from sorted(found, key=lambda entry: (entry.concept is None, entry.label, entry.name))


def _coded(icons: IconSet, book: Mapping[str, str], concepts: Mapping[str, Concept]) -> dict[str, str]:
    """Drawings by code point: first as the package says, then by their names, then by their second names."""
    codes = {code: name for code, name in icons.codes.items() if name in icons.drawings}
    for name in icons.drawings:
        if name in book:
            codes.setdefault(book[name], name)
    # A second name may have come to mean another thing ("cricket" was the game, is the insect): the first one counts.
    named = {name for code, name in codes.items() if code in concepts}
    for alias, name in icons.aliases.items():
        if alias in book and name in icons.drawings and name not in named:
            codes.setdefault(book[alias], name)
    return codes


def _extras(icons: IconSet, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, str]]:
    """Pictographs that Unicode has not named yet, or not in this form."""
    for code, name in icons.codes.items():
        toned = any(f"1F3F{digit}" in code for digit in "BCDEF")
        if code not in concepts and name[0].isalpha() and int(code.split("-")[0], 16) in PICTOGRAPHS and not toned:
            yield name, name.replace("-", " ")


def _glued(
    icons: IconSet, book: Mapping[str, str], concepts: Mapping[str, Concept]
) -> tuple[dict[str, str], dict[str, str]]:
    """Drawings of FxEmojis by code point, and the labels of the rest by name."""
    glued: dict[str, str] = {}
    for name, code in book.items():
        glued.setdefault(name.replace("-", ""), code)
    by_label = {concept.label: concept.code for concept in concepts.values()}
    codes: dict[str, str] = {}
    extras, told = {}, fxemoji_labels()
    for name in icons.drawings:
        bare = name.replace("-", "")
        label = told.get(name)
        found = by_label.get(label) if label else glued.get(bare) or glued.get(bare + FACE)
        if found:
            codes.setdefault(found, name)
        elif label:
            extras[name] = label
    return codes, extras
