"""Opening every picture before the first step, in threads; what was found is remembered between starts."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..files.durable import durable_write
from ..request import MAX_PROMPT
from .config import Source
from .decode import PictureError, examine
from .found import Found, file_bytes, stamp

log = logging.getLogger(__name__)
Results = dict[str, dict[str, Any] | str]  # fields of Checked, or a reason, by what would change with the picture
AT_ONCE = 64  # pictures between the threads and the caller
NO_WORDS = re.compile(
    r"\.\.[/\\]|</?(?:a|b|body|br|div|html|i|iframe|img|p|script|span|style|svg)\b[^>]*>", re.IGNORECASE
)
CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")  # what Python makes of bytes that are not UTF-8


@dataclass(frozen=True)
class Checked:
    """What is remembered of a picture that can be decoded."""

    sha256: str
    width: int  # pixels, upright
    height: int
    beside: Mapping[str, str]  # SHA-256 of its "mask" and of other pictures by column


def unusable(caption: str, *, required: bool = True) -> str:
    """Why a caption cannot be used; "" if it can."""
    if not caption:
        return "it has no caption" if required else ""
    if len(caption) > MAX_PROMPT:
        return f"its caption is longer than {MAX_PROMPT:,} characters"
    if CONTROL.search(caption):
        return "its caption holds control characters"
    if SURROGATE.search(caption):
        return "its caption is not UTF-8 text"
    if junk := NO_WORDS.search(caption):
        return f"its caption is markup or a path, not words: {junk[0][:20]!r}"
    return ""


class Checks:
    """Checks the pictures of one source; `others` are columns with pictures that each must have, too.

    With a cache folder a file there keeps the results until a picture's file changes its size or time.
    """

    def __init__(self, folder: Path | None, source: Source, others: Sequence[str]):
        self.others = tuple(others)
        which = json.dumps([str(source.path.absolute()), source.split, *others])
        digest = hashlib.sha256(which.encode()).hexdigest()[:16]
        self.path = folder / f"checked-{digest}.json" if folder else None
        self.before = self._remembered()
        self.results: Results = {}

    def of(self, pictures: Iterable[Found]) -> Iterator[tuple[Found, Checked | str]]:
        """Each picture, in order, with what it is or the reason why it cannot be used."""
        candidates, done = iter(pictures), False
        try:
            with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
                while some := list(islice(candidates, AT_ONCE)):
                    yield from zip(some, threads.map(self._result, some), strict=True)
            done = True
        finally:
            self._remember(self.results if done else self.before | self.results)

    def _result(self, found: Found) -> Checked | str:
        if found.problem:
            return found.problem
        try:
            key = json.dumps([found.origin.stamp(self.others), stamp(found.mask) if found.mask else ""])
        except OSError as error:
            return _told(error)
        result = self.before.get(key)
        if result is None:
            checked = _examined(found, self.others)
            result = checked if isinstance(checked, str) else asdict(checked)
        self.results[key] = result
        return result if isinstance(result, str) else Checked(**result)

    def _remembered(self) -> Results:
        if self.path is None or not self.path.is_file():
            return {}
        try:
            known = json.loads(self.path.read_bytes())
            for result in known.values():
                _ = result if isinstance(result, str) else Checked(**result)
        except (OSError, ValueError, TypeError, AttributeError):
            log.warning("%s is damaged; checking all pictures again", self.path)
            return {}
        return dict(known)

    def _remember(self, results: Results) -> None:
        if self.path is None or results.keys() == self.before.keys():
            return
        text = json.dumps(results)

        def write(target: Path) -> None:
            target.write_text(text, encoding="utf-8")

        try:
            durable_write(self.path, write)
        except OSError as error:
            log.warning("%s: %s; the next start checks all pictures again", self.path, error)


def _examined(found: Found, others: Sequence[str]) -> Checked | str:
    readers = {"": partial(found.origin.read, ""), **{name: partial(found.origin.read, name) for name in others}}
    if found.mask:
        readers["mask"] = partial(file_bytes, found.mask)
    sizes, hashes = {}, {}
    for name, read in readers.items():
        try:
            data = read()
            sizes[name] = examine(data)
        except (PictureError, OSError) as error:
            return f"its {name}: {_told(error)}" if name else _told(error)
        hashes[name] = hashlib.sha256(data).hexdigest()
    return Checked(hashes.pop(""), *sizes[""], hashes)


def _told(error: Exception) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
