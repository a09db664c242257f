r"""Prompts with choices in them, as the Dynamic Prompts extension of A1111 reads them.

    {a|b|c}       one of them       {3::a|b}           a three times as often as b
    {2$$a|b|c}    two of them, such as "c, a"          {1-2$$a|b|c}  {-2$$a|b|c}  {2-$$a|b|c}  so many, at random
    {2$$ and $$a|b|c}               joined by " and "
    __color__     a line of the file color.txt, __animals/*__ of any file in animals
    {2$$__color__}                  two lines of it

All of it nests, and lines may hold choices again. Braces without "|" or "$$" are plain text, and so is what
follows a backslash. The same random numbers make the same choices.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from random import Random

from ..request import MAX_PROMPT, RequestError

PIECE = re.compile(r"\\.|__(?P<name>[\w/*?.~-]+?)__|\$\$|[^\\_$|{}]+|.", re.DOTALL)
COUNT = re.compile(r"\s*([0-9]{0,4})(-?)([0-9]{0,4})\s*")
OFTEN = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})::")
DEPTH, LOOKUPS = 20, 10_000  # of wildcards in lines of wildcards, and in all for one prompt
LARGEST = 16 << 20  # bytes of a file


@dataclass(frozen=True)
class Wildcards:
    """A folder of text files, one choice a line; empty lines and those that begin with "#" are passed over."""

    folder: Path | None = None
    _lines: dict[Path, list[str]] = field(default_factory=dict, init=False, compare=False)

    @cached_property
    def files(self) -> dict[str, Path]:
        """By name: the path in the folder, in small letters and without the ".txt"."""
        paths = sorted(self.folder.rglob("*.txt")) if self.folder else []
        return {p.relative_to(self.folder).with_suffix("").as_posix().casefold(): p for p in paths if self.folder}

    def lines(self, name: str) -> list[str]:
        """The choices for a name or a pattern, at least one. Raises RequestError if there are none."""
        wanted = name.casefold()
        found = [line for key, path in self.files.items() if fnmatchcase(key, wanted) for line in self._read(path)]
        if not found:
            near = get_close_matches(wanted, self.files, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(f'__{key}__' for key in near)}?" if near else "write that file"
            place = f"no line in a file {name}.txt in {self.folder}" if self.folder else "no folder of wildcards"
            raise RequestError(f"the prompt has __{name}__, and there is {place}; {hint}")
        return found

    def _read(self, path: Path) -> list[str]:
        if path not in self._lines:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RequestError(f"{path}: not in UTF-8 ({error}); save it so") from error
            if len(data) > LARGEST:
                raise RequestError(f"{path}: wildcards of more than {LARGEST >> 20} MiB; cut them into several files")
            lines = (line.strip() for line in text.splitlines())
            self._lines[path] = [line for line in lines if line and not line.startswith("#")]
        return self._lines[path]


Said = str | list[str]  # text, or the lines of a wildcard of which one is still to be chosen


@dataclass
class Braces:
    """Open braces, or the prompt itself."""

    options: list[list[Said]] = field(default_factory=lambda: [[]])

    def literal(self, opening: str, closing: str) -> list[Said]:
        """The braces as mere characters."""
        first, *others = self.options
        return [opening, *first, *(said for option in others for said in ("|", *option)), closing]


def expand(prompt: str, wildcards: Wildcards, random: Random) -> str:
    """The prompt with every choice made. Raises RequestError for wildcards that are not there, or without an end."""
    return Expansion(wildcards, random).expand(prompt, 0)


@dataclass
class Expansion:
    """The choices of one prompt."""

    wildcards: Wildcards
    random: Random
    lookups: int = 0

    def expand(self, prompt: str, depth: int) -> str:
        """A prompt, or a line of a wildcard in `depth` others, with every choice made."""
        whole, opened = Braces(), list[Braces]()
        for match in PIECE.finditer(prompt):
            piece, inmost = match[0], opened[-1] if opened else whole
            if match["name"]:
                inmost.options[-1].append(self.wildcards.lines(match["name"]))
            elif piece == "{":
                opened.append(Braces())
            elif piece == "}" and opened:
                said = self._chosen(opened.pop(), depth)
                (opened[-1] if opened else whole).options[-1].append(said)
            elif piece == "|" and opened:
                inmost.options.append([])
            else:
                inmost.options[-1].append(piece)
        for braces in opened:
            whole.options[0] += braces.literal("{", "")
        text = self._text(whole.options[0], depth)
        if len(text) > MAX_PROMPT:
            raise RequestError(f"the prompt with its choices made is longer than {MAX_PROMPT} characters")
        return text

    def _text(self, option: Sequence[Said], depth: int) -> str:
        return "".join(said if isinstance(said, str) else self._line(said, depth) for said in option)

    def _line(self, lines: list[str], depth: int) -> str:
        """One of the lines of a wildcard, with its own choices made."""
        chosen = self._drawn([_often(line)[0] for line in lines], 1)[0]
        self.lookups += 1
        if depth == DEPTH or self.lookups > LOOKUPS:
            raise RequestError("the prompt's wildcards lead to ever more wildcards; does a file name itself?")
        return self.expand(_often(lines[chosen])[1], depth + 1)

    def _chosen(self, braces: Braces, depth: int) -> str:
        """What closed braces say."""
        first, *others = braces.options
        joint, low, high = "", 1, 1
        if len(first) > 1 and first[1] == "$$" and isinstance(first[0], str) and (count := COUNT.fullmatch(first[0])):
            mark = first.index("$$", 2) if "$$" in first[2:] else 1
            joint, first = self._text(first[2:mark], depth) if mark > 1 else ", ", first[mark + 1 :]
            low = int(count[1] or 1)
            high = int(count[3] or MAX_PROMPT) if count[2] else low
        elif not others:
            return self._text(braces.literal("{", "}"), depth)
        if len(first) == 1 and isinstance(first[0], list) and not others:
            options: list[list[Said]] = [[[line]] for line in first[0]]
            weights = [_often(line)[0] for line in first[0]]
        else:
            options, weights = [], []
            for option in (first, *others):
                start = option[0] if option and isinstance(option[0], str) else ""
                weight, rest = _often(start)
                options.append([rest, *option[bool(start) :]])
                weights.append(weight)
        low, high = sorted((min(low, len(options)), min(high, len(options))))
        drawn = self._drawn(weights, low + int(self.random.random() * (high - low + 1)))
        return joint.join(self._text(options[i], depth) for i in drawn)

    def _drawn(self, weights: list[float], count: int) -> list[int]:
        """So many different places, the likelier the heavier, in the order of drawing."""
        # by random.random() alone: of all methods, only that one's numbers are the same in every version of Python
        left, drawn = dict(enumerate(weights)), []
        for _ in range(count):
            ends = list(accumulate(left.values() if any(left.values()) else [1.0] * len(left)))
            place = list(left)[min(bisect_right(ends, self.random.random() * ends[-1]), len(ends) - 1)]
            drawn.append(place)
            del left[place]
        return drawn


def _often(line: str) -> tuple[float, str]:
    """How often a line or an option is to be chosen, and the rest of it."""
    found = OFTEN.match(line)
    return (float(found[1]), line[found.end() :]) if found else (1.0, line)
