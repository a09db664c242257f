"""The pictures of a run: every one opened and checked before the first step, every other named with the reason."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

from ..request import RequestError
from .checks import Checked, Checks, unusable
from .config import Data, Source
from .decode import ground_color
from .found import Found, Origin, file_bytes, printable
from .sources import found_in, pictures_below


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A usable picture. What reads raises PictureError or OSError if it has turned bad since."""

    name: str  # as reports say it
    sha256: str  # of the encoded picture
    caption: str
    width: int  # pixels, upright
    height: int
    repeats: float = 1.0
    weight: float = 1.0
    row: Mapping[str, Any] = field(default_factory=dict)  # of its table, all but pictures
    beside: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of its "mask" and of other pictures by column
    origin: Origin = field(compare=False)
    mask: Path | None = field(default=None, compare=False)

    def read(self) -> bytes:
        """The encoded picture."""
        return self.origin.read("")

    def read_mask(self) -> bytes | None:
        """The encoded mask, if there is one."""
        return file_bytes(self.mask) if self.mask else None

    def read_other(self, column: str) -> bytes:
        """The encoded picture that its table holds in, or names by, another column."""
        return self.origin.read(column)


@dataclass(frozen=True)
class Manifest:
    """Pictures in the order of their sources, and the rest as (name, reason)."""

    entries: tuple[Entry, ...]
    dropped: tuple[tuple[str, str], ...] = ()

    @property
    def sha256(self) -> str:
        """Of contents, captions, repeats and weights, wherever the files are and whatever they are called."""
        lines = [
            json.dumps([e.sha256, dict(e.beside), e.caption, e.repeats, e.weight], sort_keys=True) for e in self.entries
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def held_out(self, share: float) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """(for training, held out): chosen by content, so equal pictures stay together and additions move few.

        Of at least two different pictures at least one is on each side if `share` is above 0. Raises RequestError.
        """
        if not 0 <= share < 1:
            raise RequestError(f"held_out is {share:g}; it is a share of the pictures, from 0 to below 1")
        contents = sorted({e.sha256 for e in self.entries})
        count = min(max(round(share * len(contents)), 1), len(contents) - 1) if share else 0
        held = set(contents[:count])
        train = tuple(e for e in self.entries if e.sha256 not in held)
        return train, tuple(e for e in self.entries if e.sha256 in held)

    def summary(self) -> dict[str, Any]:
        """For the record of a run."""
        return {
            "sha256": self.sha256,
            "kept": len(self.entries),
            "captions": len({e.caption for e in self.entries}),
            "dropped": [{"name": name, "reason": reason} for name, reason in self.dropped],
        }


def gather(
    data: Data,
    *,
    captions: bool = True,
    others: Sequence[str] = (),
    at_least: int = 1,
    looked_at: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """All usable pictures of the sources.

    With `captions` off pictures need none. `others` are columns of tables with pictures that are needed, too.
    `looked_at` is told how many have been checked so far. Results are remembered in the folder `data.cache`, if set,
    until a file's size or time changes. Raises RequestError that names the source and the remedy, also if fewer than
    `at_least` pictures are usable.
    """
    ground_color(data.background)
    if not data.sources:
        raise RequestError("no sources of pictures: set data.sources to folders, .parquet or .tar files")
    entries: list[Entry] = []
    dropped: list[tuple[str, str]] = []
    for source in data.sources:
        seen = silent = 0
        for found, result in _checked(source, data, others):
            seen += 1
            caption = found.caption or source.caption
            silent += not caption and not found.problem
            if isinstance(result, str):
                dropped.append((found.name, result))
            elif reason := unusable(caption, required=captions):
                dropped.append((found.name, reason))
            else:
                entries.append(_entry(found, caption, source, result))
            looked_at(len(entries) + len(dropped))
        _refuse_useless(source, seen, silent if captions else 0)
    if len(entries) < at_least:
        first = "; ".join(f"{name}: {reason}" for name, reason in dropped[:3])
        raise RequestError(f"{len(entries)} of {len(entries) + len(dropped)} pictures can be used. {first}")
    return Manifest(tuple(entries), tuple(dropped))


def _checked(source: Source, data: Data, others: Sequence[str]) -> Iterator[tuple[Found, Checked | str]]:
    for name, value in (("repeats", source.repeats), ("weight", source.weight)):
        if not isfinite(value) or value < 0:
            raise RequestError(f"{source.path}: {name} is {value:g}; it must be 0 or more")
    masks = pictures_below(source.masks) if source.masks else {}
    wanted = (f for f in found_in(source) if f.problem or _fits(f.row, source.match))
    found = (replace(f, name=printable(f.name), mask=masks.get(f.stem)) for f in wanted)
    return Checks(data.cache, source, others).of(found)


def _fits(row: Mapping[str, Any], match: Mapping[str, Sequence[str]]) -> bool:
    return all(any(fnmatchcase(str(row.get(c, "")), p) for p in patterns) for c, patterns in match.items())


def _refuse_useless(source: Source, seen: int, silent: int) -> None:
    if not seen:
        which = f" of split {source.split!r}" if source.split else ""
        which += f" whose columns match {dict(source.match)}" if source.match else ""
        raise RequestError(f"{source.path} holds no picture{which}; put PNG, JPEG or WebP files there")
    if silent == seen:
        remedy = "put NAME.txt beside NAME.png, a column `caption` into the table, or set `caption` of the source"
        raise RequestError(f"{source.path} has no captions; {remedy}")


def _entry(found: Found, caption: str, source: Source, checked: Checked) -> Entry:
    return Entry(
        name=found.name,
        sha256=checked.sha256,
        caption=caption,
        width=checked.width,
        height=checked.height,
        repeats=source.repeats,
        weight=source.weight,
        row=found.row,
        beside=checked.beside,
        origin=found.origin,
        mask=found.mask,
    )
