"""Labels that fit: letters as large as their place allows, lines wrapped at words, letters of other scripts."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .plan import Label, Words

LEAST, LARGEST = 10, 48  # pixels: heights of letters
INK, STRUCK = "#111111", "#9a9a9a"
# For letters that Pillow's own font, which is for English, lacks: what the usual systems have.
OTHER_FONTS = (
    "NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "PingFang.ttc", "msgothic.ttc", "arial.ttf",
)  # fmt: skip
PIECE = re.compile(r"\s*[^\s/_-]+[/_-]*\s*|[/_-]+")  # what a line may end after
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Lettering:
    """Labels of one side of a grid, wrapped, all with letters of one size."""

    size: int  # pixels
    labels: tuple[Label, ...]

    @property
    def height(self) -> int:
        """Of the highest label."""
        return max((len(label) for label in self.labels), default=0) * leading(self.size)

    @property
    def width(self) -> int:
        """Of the widest line."""
        lines = (words.text for label in self.labels for words in label)
        return math.ceil(max((font_for(line, self.size).getlength(line) for line in lines), default=0))

    def draw(self, page: Image.Image, i: int, middle: tuple[float, float], *, centered: bool = True) -> None:
        """Label i round its middle; else to the left of the middle's x."""
        pen, label = ImageDraw.Draw(page), self.labels[i]
        x, y = middle[0], middle[1] - len(label) * leading(self.size) / 2
        for words in label:
            font = font_for(words.text, self.size)
            width = font.getlength(words.text)
            left, color = (x - width / 2 if centered else x - width), INK if words.is_active else STRUCK
            pen.text((left, y + leading(self.size) / 2), words.text, color, font, anchor="lm")
            if not words.is_active:
                pen.line((left, y + leading(self.size) / 2, left + width, y + leading(self.size) / 2), STRUCK)
            y += leading(self.size)


def lettered(labels: Sequence[Label], largest: int, width: int, height: int) -> Lettering:
    """Labels wrapped to a width, of letters at most `largest` high; smaller where a word or a label is too large.

    What does not fit with the smallest letters is broken within words, and cut at the end.
    """
    if width < 1 or height < 1:
        raise ValueError("labels need room")
    for size in range(max(LEAST, min(largest, LARGEST)), LEAST, -1):
        made = Lettering(size, tuple(wrapped(label, size, width, breaks=False) for label in labels))
        if made.height <= height and all(
            font_for(words.text, size).getlength(words.text) <= width for label in made.labels for words in label
        ):
            return made
    most = max(1, height // leading(LEAST))
    return Lettering(LEAST, tuple(_cut(wrapped(label, LEAST, width, breaks=True), most) for label in labels))


def wrapped(label: Label, size: int, width: int, *, breaks: bool) -> Label:
    """A label in lines of at most a width in pixels, where blanks and hyphens allow it or words may be broken."""
    lines = []
    for text, is_active in label:
        font, line, found = font_for(text, size), "", list[str]()
        for piece in PIECE.findall(text):
            while breaks and font.getlength(piece) > width and len(piece) > 1:
                found += [line] if line.strip() else []
                fits = next((n for n in range(len(piece), 1, -1) if font.getlength(piece[:n]) <= width), 1)
                line, piece = piece[:fits], piece[fits:]
            if line and font.getlength(f"{line}{piece}".rstrip()) > width:
                found.append(line)
                line = ""
            line += piece
        lines += [Words(line.strip(), is_active) for line in [*found, line] if line.strip()]
    return tuple(lines)


def _cut(label: Label, most: int) -> Label:
    if len(label) <= most:
        return label
    *kept, last = label[:most]
    return (*kept, Words(f"{last.text[:-2]} ...", last.is_active))


def leading(size: int) -> int:
    """From line to line, in pixels."""
    return round(size * 1.25)


def font_for(text: str, size: int) -> Font:
    """Pillow's own font, or the first of the system's that lacks fewer of the letters."""
    names = min(("", *OTHER_FONTS), key=lambda name: sum(_lacks(name, letter) for letter in set(text)))
    return _font(names, size) or ImageFont.load_default()


@cache
def _font(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@cache
def _lacks(name: str, letter: str) -> bool:
    """Whether a font draws this letter as it draws those that no font has."""
    font = _font(name, 16)
    if letter.isascii() and letter.isprintable():
        return font is None
    return font is None or bytes(font.getmask(letter)) == bytes(font.getmask("\uffff"))
