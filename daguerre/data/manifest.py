"""The pictures of a run: every one opened and checked before the first step, every other named with the reason."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

from ..files.durable import durable_write
from ..request import MAX_PROMPT, RequestError
from .config import Data, Source
from .decode import PictureError, examine, ground_color
from .sources import Found, Origin, found_in, pictures_below

log = logging.getLogger(__name__)
AT_ONCE = 64  # pictures in memory while they are checked
NO_WORDS = re.compile(
    r"\.\.[/\\]|</?(?:a|b|body|br|div|html|i|iframe|img|p|script|span|style|svg)\b[^>]*>", re.IGNORECASE
)
CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


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
    origin: Origin
    mask: Path | None = None

    def read(self) -> bytes:
        """The encoded picture."""
        return self.origin.read("")

    def read_mask(self) -> bytes | None:
        """The encoded mask, if there is one."""
        return self.mask.read_bytes() if self.mask else None

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
    looked_at: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """All usable pictures of the sources.

    With `captions` off pictures need none. `others` are columns of tables with pictures that are needed, too.
    `looked_at` is told how many have been checked so far. Results are remembered in the folder `data.cache`, if set,
    until a file's size or time changes. Raises RequestError that names the source and the remedy.
    """
    ground_color(data.background)
    if not data.sources:
        raise RequestError("no sources of pictures: set data.sources to folders, .parquet or .tar files")
    entries: list[Entry] = []
    dropped: list[tuple[str, str]] = []
    for source in data.sources:
        kept = _gathered(source, _Needs(captions, tuple(others), data.cache), dropped, looked_at, len(entries))
        entries += kept
    if not entries:
        first = "; ".join(f"{name}: {reason}" for name, reason in dropped[:3])
        raise RequestError(f"none of {len(dropped)} pictures can be used. {first}")
    return Manifest(tuple(entries), tuple(dropped))


@dataclass(frozen=True)
class _Needs:
    captions: bool
    others: tuple[str, ...]
    cache: Path | None


def _gathered(
    source: Source, needs: _Needs, dropped: list[tuple[str, str]], looked_at: Callable[[int], None], before: int
) -> list[Entry]:
    """The usable entries of one source."""
    for name, value in (("repeats", source.repeats), ("weight", source.weight)):
        if not isfinite(value) or value < 0:
            raise RequestError(f"{source.path}: {name} is {value:g}; it must be 0 or more")
    masks = pictures_below(source.masks) if source.masks else {}
    known = _Known(needs.cache, source.path)
    entries: list[Entry] = []
    count, silent = 0, 0
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        candidates = found_in(source)
        while part := list(islice(candidates, AT_ONCE)):
            seen = threads.map(lambda found: _look(found, masks.get(found.stem), needs.others, known), part)
            for found, result in zip(part, seen, strict=True):
                caption = found.caption or source.caption
                silent += not caption
                reason = result if isinstance(result, str) else _unusable(caption, needs.captions)
                if isinstance(result, str) or reason:
                    dropped.append((found.name, reason))
                else:
                    entries.append(_entry(found, caption, source, result, masks.get(found.stem)))
            count += len(part)
            looked_at(before + count)
    known.save()
    if not count:
        which = f" of split {source.split!r}" if source.split else ""
        raise RequestError(f"{source.path} holds no picture{which}; put PNG, JPEG or WebP files there")
    if needs.captions and silent == count:
        remedy = "put NAME.txt beside NAME.png, a column `caption` into the table, or set `caption` of the source"
        raise RequestError(f"{source.path} has no captions; {remedy}")
    return entries


@dataclass(frozen=True)
class _Seen:
    """What is remembered of a picture that can be decoded."""

    sha256: str
    width: int
    height: int
    beside: Mapping[str, str]


def _entry(found: Found, caption: str, source: Source, seen: _Seen, mask: Path | None) -> Entry:
    return Entry(
        name=found.name,
        sha256=seen.sha256,
        caption=caption,
        width=seen.width,
        height=seen.height,
        repeats=source.repeats,
        weight=source.weight,
        row=found.row,
        beside=seen.beside,
        origin=found.origin,
        mask=mask,
    )


def _unusable(caption: str, needed: bool) -> str:
    """Why a caption cannot be used, if so."""
    if not caption:
        return "it has no caption" if needed else ""
    if len(caption) > MAX_PROMPT:
        return f"its caption is longer than {MAX_PROMPT:,} characters"
    if CONTROL.search(caption):
        return "its caption holds control characters"
    if any("\ud800" <= letter <= "\udfff" for letter in caption):
        return "its caption is not UTF-8 text"
    if junk := NO_WORDS.search(caption):
        return f"its caption is markup or a path, not words: {junk[0][:20]!r}"
    return ""


def _look(found: Found, mask: Path | None, others: Sequence[str], known: "_Known") -> _Seen | str:
    """What a picture is, or why it cannot be used."""
    if found.problem:
        return found.problem
    try:
        stamp = json.dumps([found.origin.stamp, _mask_stamp(mask), *others])
        before = known.get(stamp)
        if before is None:
            before = known.results[stamp] = _decoded(found.origin, mask, others)
        return before
    except FileNotFoundError:
        return "there is no such file"
    except (PictureError, OSError) as error:
        return str(error)


def _mask_stamp(mask: Path | None) -> str:
    if mask is None:
        return ""
    status = mask.stat()
    return f"{mask.absolute()}:{status.st_size}:{status.st_mtime_ns}"


def _decoded(origin: Origin, mask: Path | None, others: Sequence[str]) -> _Seen | str:
    try:
        data = origin.read("")
        width, height = examine(data)
    except PictureError as error:
        return str(error)
    beside = {}
    readers: dict[str, Callable[[], bytes]] = {name: lambda name=name: origin.read(name) for name in others}  # type: ignore[misc]
    if mask is not None:
        readers["mask"] = mask.read_bytes
    for name, read in readers.items():
        try:
            other = read()
            examine(other)
        except (PictureError, OSError) as error:
            return f"its {name}: {error}"
        beside[name] = hashlib.sha256(other).hexdigest()
    return _Seen(hashlib.sha256(data).hexdigest(), width, height, beside)


class _Known:
    """What earlier starts found out about the pictures of a source: one JSON file in the cache folder."""

    def __init__(self, folder: Path | None, source: Path):
        digest = hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:16]
        self.path = folder / f"checked-{digest}.json" if folder else None
        self.results: dict[str, _Seen | str] = {}
        self.before: dict[str, Any] = {}
        if self.path and self.path.is_file():
            try:
                self.before = dict(json.loads(self.path.read_bytes()))
            except (OSError, ValueError, TypeError):
                log.warning("%s is damaged; checking all pictures again", self.path)

    def get(self, stamp: str) -> _Seen | str | None:
        value = self.before.get(stamp)
        if isinstance(value, list) and len(value) == 4:
            value = _Seen(*value)
        elif not isinstance(value, str):
            return None
        self.results[stamp] = value
        return value

    def save(self) -> None:
        if self.path is None or self.results.keys() == self.before.keys():
            return
        plain = {
            k: v if isinstance(v, str) else [v.sha256, v.width, v.height, v.beside] for k, v in self.results.items()
        }

        def write(target: Path) -> None:
            target.write_text(json.dumps(plain), encoding="utf-8")

        try:
            durable_write(self.path, write)
        except OSError as error:
            log.warning("%s: %s; the next start checks all pictures again", self.path, error)
