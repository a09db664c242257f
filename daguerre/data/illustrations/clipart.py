"""The Open Clip Art Library as Debian packs it: SVG files in folders, with titles, keywords and authors inside."""

import html
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .italian import labels as italian_labels
from .naming import Entry
from .sets import Style

ROOT = PurePosixPath("usr/share/openclipart/svg")
LEFT_OUT = (  # folders of symbols, signs, maps, cards, weapons and brands
    "computer/icons", "computer/buttons", "computer/diagrams", "computer/network", "geography", "shapes",
    "signs_and_symbols", "special", "unsorted", "recreation/games", "tools/weapons", "transportation/aiga-symbols",
    "transportation/vehicles/hummers", "logos", "buttons",
)  # fmt: skip
FREE = re.compile(r"public\s?domain", re.IGNORECASE)
COLLECTION = re.compile(
    r"clip ?arts?\b|\bsvg\b|https?:|untitled|example|^(?:etiquette|boating rules|(?:lemon|flat)\b.*theme)|\d{3}",
    re.IGNORECASE,
)  # titles of a whole series, which say nothing of the picture
NO_KEYWORD = re.compile(
    r"hash\b.*|unsorted|symbol|.*(?:_icon|theme|rollandin|clip ?art)|icons?|.*[@/:].*", re.IGNORECASE
)
UNWANTED = re.compile(r"\b(?:bb|strippers?|nude|naked|logos?|flags?|guns?|rifles?|nazi|swastika)\b", re.IGNORECASE)
BLACK_AND_WHITE = re.compile(r"\b(?:b ?and ?w|bw|black and white)\b")
SHARED = 6  # so many files of one title: it is the series' title
FIRST = re.compile(r"^(?:an?|the)\s+")
ONE_OF = {"people": "person", "office": "office item", "sports": "sport", "tools": "tool", "animals": "animal"}
ALSO_CALLED = {"gerald g.": ("ganson",)}  # as authors sign in file names


@dataclass(frozen=True)
class _File:
    path: PurePosixPath
    svg: str
    title: str
    author: str
    keywords: tuple[str, ...]


def clip_art(style: Style, path: Path, italian: Mapping[str, str]) -> list[Entry]:
    """The pictures of things in the public domain, in the order of their folders.

    `italian` has English names by Italian ones, for the titles of one author. Raises ValueError if the package has
    another form than expected.
    """
    files = [file for file in _files(path) if not str(file.path.parent).startswith(LEFT_OUT)]
    italian = {**italian, **italian_labels()}
    titles = Counter(file.title for file in files)
    found = []
    for file in files:
        usual = file.title if titles[file.title] < SHARED and not COLLECTION.search(file.title) else ""
        label = _label(file, usual, italian)
        folders = file.path.parent.parts
        tags = [k for k in (*file.keywords, *folders) if k != label]
        if not label or UNWANTED.search(f"{label} {file.title}"):
            continue
        found.append(
            Entry(
                style,
                str(file.path.with_suffix("")),
                file.svg,
                label,
                tuple(dict.fromkeys(tags)),
                "/".join(folders[:2]),
                "/".join(folders[2:]) or None,
                None,
                file.author or style.author,
            )
        )
    return sorted(found, key=lambda entry: entry.name)


def _files(path: Path) -> Iterator[_File]:
    with tarfile.open(fileobj=io.BytesIO(_member(path, "data.tar.xz")), mode="r:xz") as archive:
        for member in archive:
            inside = PurePosixPath(member.name)
            if not (member.isfile() and inside.suffix == ".svg" and inside.is_relative_to(ROOT)):
                continue
            file = archive.extractfile(member)
            svg = file.read().decode("utf-8", "replace") if file else ""
            licenses = [text for text in _all(r'<(?:cc:)?license rdf:resource="([^"]*)"', svg) if text]
            if licenses and all(FREE.search(text) for text in licenses):
                yield _file(inside.relative_to(ROOT), svg)


def _file(path: PurePosixPath, svg: str) -> _File:
    creator = "".join(_all(r"<dc:creator>(.*?)</dc:creator>", svg)[:1])
    keywords = [word.lower() for word in _all(r"<rdf:li[^>]*>(.*?)</rdf:li>", svg)]
    return _File(
        path=path,
        svg=svg,
        title="".join(_all(r"<dc:title>(.*?)</dc:title>", svg)[:1]),
        author="".join(_all(r"<dc:title>(.*?)</dc:title>", creator)[:1]),
        keywords=tuple(dict.fromkeys(word for word in keywords if word and not NO_KEYWORD.fullmatch(word))),
    )


def _all(pattern: str, text: str) -> list[str]:
    found = re.findall(pattern, text, re.DOTALL)
    return [" ".join(html.unescape(html.unescape(item)).split()) for item in found]


def _label(file: _File, title: str, italian: Mapping[str, str]) -> str:
    """The title if it says something, else the file's name without its author's, else the first keyword."""
    if "rollandin" in file.author.lower():
        said = _words(title)
        return italian.get(said) or next((italian[w] for w in said.split() if w in italian), "") or _kind(file)
    words = _words(title) or _words(_unsigned(file))
    return _turned(words) if re.search(r"[a-z]{3}", words) else _kind(file)


def _words(text: str) -> str:
    """Lower case, no marks, no numbers of a series: "Bride_02 (B and W)" is "bride b and w"."""
    plain = re.sub(r"(?<=[a-z])(?=\d)|[^\w’'&+-]|_", " ", text.lower()).replace("&", " and ")
    words = [word.strip("-'") for word in plain.split()]
    return FIRST.sub("", " ".join(word for word in words if word and not re.fullmatch(r"\d+[a-z]?", word)))


def _unsigned(file: _File) -> str:
    """The file's name without the author's, of which the package keeps so much as fits."""
    author = file.author.lower()
    signed = [*re.findall(r"\w+", author), *ALSO_CALLED.get(author, ())]
    words = re.sub(r"\d+r?$|\.svg", "", file.path.stem.lower()).split("_")
    kept = [word for word in words if not (len(word) > 1 and any(name.startswith(word) for name in signed))]
    return " ".join(kept or words[:1])


def _turned(words: str) -> str:
    """Puts "b and w" first, in full."""
    rest = " ".join(BLACK_AND_WHITE.sub(" ", words).split())
    return words if rest == words else f"black and white {rest}".strip()


def _kind(file: _File) -> str:
    """What sort of thing it is: the first keyword, or the innermost folder."""
    kind = next(iter(file.keywords), file.path.parent.name.replace("_", " "))
    return ONE_OF.get(kind, kind)


def _member(path: Path, name: str) -> bytes:
    """A file of an ar archive, which a .deb is: a line of 60 bytes, then the content, padded to even length."""
    data = path.read_bytes()
    start = 8
    while data[:8] == b"!<arch>\n" and start + 60 <= len(data):
        title, length = data[start : start + 16].decode("ascii", "replace").strip(" /"), data[start + 48 : start + 58]
        size = int(length)
        if title == name:
            return data[start + 60 : start + 60 + size]
        start += 60 + size + size % 2
    raise ValueError(f"{path} is no Debian package that holds {name}")
