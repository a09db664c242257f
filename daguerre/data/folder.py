"""Folders of pictures: captions in files beside them or in a table, and whatever archives lie among them."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..request import RequestError
from .config import Source
from .decode import PictureError
from .found import MAX_TEXT, PICTURES, SIDECARS, Found, as_text, file_bytes, said_in, stamp, stays_inside, stem_of
from .parquet import PARQUET, parquet_pictures
from .tar import ARCHIVE, tar_pictures

OTHER_PICTURES = (".svg", ".heic", ".heif", ".eps", ".fits", ".psd", ".jxl", ".jp2", ".ico", ".tga", ".raw", ".dng")
TABLES = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class InFile:
    """A file of its own; other pictures are paths in the columns of its row, relative to the folder of the table."""

    path: Path
    folder: Path
    row: Mapping[str, Any] = field(default_factory=dict)

    def stamp(self, columns: Sequence[str]) -> str:
        stamps = [stamp(self.path)]
        for column in columns:
            with suppress(PictureError, OSError):  # told when it is read
                stamps.append(stamp(self._other(column)))
        return " ".join(stamps)

    def read(self, column: str) -> bytes:
        return file_bytes(self._other(column) if column else self.path)

    def _other(self, column: str) -> Path:
        named = self.row.get(column) or self.row.get(f"{column}_file_name")
        if not named:
            raise PictureError(f"its table names no picture in the column {column!r}")
        if not stays_inside(str(named)):
            raise PictureError(f"its {column!r} is {str(named)!r}, which leads out of the folder")
        return self.folder / str(named)


def folder_pictures(root: Path, source: Source) -> Iterator[Found]:
    """The pictures of a folder and those below; masks have the names ROOT/NAME. Raises RequestError."""
    seen = {root.resolve(), source.masks.resolve() if source.masks else None}  # links may lead in circles
    for place, folders, files in os.walk(root, followlinks=True):
        here = Path(place)
        inner = {name: (here / name).resolve() for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, real in inner.items() if real not in seen]
        seen.update(inner.values())
        if tables := [name for name in TABLES if name in files]:
            folders.clear()  # the table says which pictures there are
            yield from _table(here / tables[0], root, source)
            continue
        for name in sorted(files):
            path = here / name
            suffix = path.suffix.lower()
            if suffix in PARQUET:
                yield from parquet_pictures(path, root, source)
            elif suffix in ARCHIVE:
                yield from tar_pictures(path, root, source)
            elif suffix in PICTURES + OTHER_PICTURES:
                yield _file(path, root, source)


def _file(path: Path, root: Path, source: Source) -> Found:
    if source.split:
        raise RequestError(f"{source.path}: split is {source.split!r}, but no table with a column `split` is there")
    problem = ""
    if path.name.startswith("._"):
        problem = "it is what macOS leaves beside a picture, not one"
    elif path.suffix.lower() in OTHER_PICTURES:
        problem = f"{path.suffix.lower()[1:].upper()} is not read; convert it to PNG"
    try:
        caption = next((_text(p) for s in SIDECARS if (p := path.with_suffix(s)).is_file()), None)
    except (OSError, ValueError) as error:
        caption, problem = None, problem or f"its caption cannot be read: {error}"
    return Found(name=str(path), stem=stem_of(path, root), origin=InFile(path, root), caption=caption, problem=problem)


def _table(path: Path, root: Path, source: Source) -> Iterator[Found]:
    """The rows of `metadata.jsonl` or `metadata.csv`, with `file_name` relative to the table's folder."""
    has_split = False
    for number, row in _rows(path):
        if isinstance(row, str):
            yield _broken(f"{path}: line {number}", path, row)
            continue
        has_split |= "split" in row
        if source.split and row.get("split") != source.split:
            continue
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            yield _broken(f"{path}: line {number}", path, "it has no file_name")
        elif not stays_inside(name):
            yield _broken(f"{path}: line {number}", path, f"file_name {name!r} leads out of the folder")
        else:
            picture = path.parent / name
            origin = InFile(picture, path.parent, row)
            stem = stem_of(picture, root)
            yield Found(name=str(picture), stem=stem, origin=origin, caption=said_in(row), row=row)
    if source.split and not has_split:
        raise RequestError(f"{path} has no column `split`, but split is {source.split!r}; leave that setting out")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Numbered rows of a table, or why one cannot be read."""
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                        yield number, row if isinstance(row, dict) else "it is no JSON object"
                    except (ValueError, RecursionError):
                        yield number, "it is no JSON object"
        return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restkey="")
        while True:
            try:
                yield reader.line_num + 1, next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, str(error)


def _broken(name: str, path: Path, problem: str) -> Found:
    return Found(name=name, stem="", origin=InFile(path, path.parent), problem=problem)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return as_text(file.read(MAX_TEXT + 1))
