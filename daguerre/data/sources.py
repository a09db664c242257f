"""Where pictures come from: folders, tables in folders, Parquet files and WebDataset archives, as one list."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..request import RequestError
from .config import Source
from .decode import PictureError
from .parquet import ParquetTable
from .tar import TarFile

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
OTHER_PICTURES = (".svg", ".heic", ".heif", ".eps", ".fits", ".psd", ".jxl", ".jp2", ".ico", ".tga", ".raw", ".dng")
TABLES, PARQUET, ARCHIVE = ("metadata.jsonl", "metadata.csv"), (".parquet",), (".tar",)
SIDECARS = (".txt", ".caption")
CAPTIONS = ("caption", "text")  # columns, the first that there is
MAX_TEXT = 100_000  # bytes of a sidecar that are read; more is refused as too long


class Origin(Protocol):
    """Where a picture's bytes are. `read` raises PictureError or OSError."""

    @property
    def stamp(self) -> str:
        """Changes when the bytes may have changed; raises OSError where there are none."""

    def read(self, column: str) -> bytes:
        """The picture itself for "", or the one that its table names in a column."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture that a source names and nobody has looked at yet."""

    name: str  # for reports
    stem: str  # path inside the source without suffix: masks have the same
    origin: Origin
    caption: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why it cannot be used, where that is known already


@dataclass(frozen=True)
class InFile:
    """A file of its own; other pictures are paths in the columns of its row, relative to the folder of the table."""

    path: Path
    folder: Path
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        return _stamp(self.path)

    def read(self, column: str) -> bytes:
        return (self._other(column) if column else self.path).read_bytes()

    def _other(self, column: str) -> Path:
        named = self.row.get(column) or self.row.get(f"{column}_file_name")
        if not named:
            raise PictureError(f"its table names no picture in the column {column!r}")
        if not _inside(str(named)):
            raise PictureError(f"its {column!r} is {str(named)!r}, which leads out of the folder")
        return self.folder / str(named)


@dataclass(frozen=True)
class InParquet:
    table: ParquetTable
    number: int
    changed: str

    @property
    def stamp(self) -> str:
        return f"{self.changed}:{self.number}"

    def read(self, column: str) -> bytes:
        name = column or "image"
        if name not in self.table.columns:
            raise PictureError(f"its table has no column {column!r}")
        try:
            cell = self.table.value(self.number, name)
        except ValueError as error:  # the file was whole when it was listed
            raise PictureError(str(error)) from error
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(data, bytes):
            return data
        path = cell.get("path") if isinstance(cell, dict) else cell
        if not isinstance(path, str) or not _inside(path):
            raise PictureError(f"its row holds no picture in the column {name!r}")
        return (self.table.path.parent / path).read_bytes()


@dataclass(frozen=True)
class InTar:
    archive: TarFile
    stem: str
    extension: str
    changed: str

    @property
    def stamp(self) -> str:
        return f"{self.changed}:{self.stem}.{self.extension}"

    def read(self, column: str) -> bytes:
        members = self.archive.stems[self.stem]
        prefix = f"{column}." if column else ""
        for extension in (f"{prefix}{e}" for e in ((self.extension,) if not column else _bare(PICTURES))):
            if extension in members:
                return self.archive.read(members[extension])
        raise PictureError(f"the archive has no picture {self.stem}.{column}.*")


def found_in(source: Source) -> Iterator[Found]:
    """All that a source names, sorted by place inside it. Raises RequestError that says what to do."""
    path = source.path
    if not path.exists():
        raise RequestError(f"{path}: there is no such folder or file; sources name where your pictures are")
    if path.is_dir():
        yield from _folder(path, source)
    elif path.suffix.lower() in PARQUET:
        yield from _parquet(path, path.parent, source)
    elif path.suffix.lower() in ARCHIVE:
        yield from _tar(path, path.parent, source)
    else:
        remedy = "name a folder of pictures, a .parquet file or an uncompressed .tar"
        raise RequestError(f"{path} is no source of pictures; {remedy}")


def pictures_below(folder: Path) -> dict[str, Path]:
    """The pictures of a folder of masks, by their path inside it without suffix."""
    if not folder.is_dir():
        raise RequestError(f"{folder}: there is no such folder; masks names a folder of pictures by the same names")
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    if not files:
        raise RequestError(f"{folder} holds no picture; masks have the names of the pictures that they belong to")
    return {_stem(p, folder): p for p in files}


def _folder(root: Path, source: Source) -> Iterator[Found]:
    masks = source.masks.resolve() if source.masks else None
    for place, folders, files in os.walk(root):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != masks)
        if tables := [name for name in TABLES if name in files]:
            folders.clear()  # the table says which pictures there are
            yield from _table(here / tables[0], root, source)
            continue
        for name in sorted(files):
            path = here / name
            suffix = path.suffix.lower()
            if suffix in PARQUET:
                yield from _parquet(path, root, source)
            elif suffix in ARCHIVE:
                yield from _tar(path, root, source)
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
    return Found(name=str(path), stem=_stem(path, root), origin=InFile(path, root), caption=caption, problem=problem)


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
        elif not _inside(name):
            yield _broken(f"{path}: line {number}", path, f"file_name {name!r} leads out of the folder")
        else:
            picture = path.parent / name
            origin = InFile(picture, path.parent, row)
            stem = _stem(picture, root)
            yield Found(name=str(picture), stem=stem, origin=origin, caption=_caption(row), row=row)
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
        reader = csv.DictReader(file)
        while True:
            try:
                yield reader.line_num + 1, next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, str(error)


def _parquet(path: Path, root: Path, source: Source) -> Iterator[Found]:
    table = ParquetTable(path)
    if "image" not in table.columns:
        has = ", ".join(table.columns)
        raise RequestError(f"{path} has no column `image`, only {has}; rename the one of pictures")
    plain = [name for name in table.columns if name != "image" and not table.holds_pictures(name)]
    if source.split and "split" not in plain:
        raise RequestError(f"{path} has no column `split`, but split is {source.split!r}; leave that setting out")
    changed, inside = _stamp(path), path.relative_to(root).with_suffix("").as_posix()
    for number, row in enumerate(table.rows(plain)) if plain else ((n, {}) for n in range(len(table))):
        if not source.split or row.get("split") == source.split:
            origin = InParquet(table, number, changed)
            yield Found(
                name=f"{path}: row {number}", stem=f"{inside}/{number}", origin=origin, caption=_caption(row), row=row
            )


def _tar(path: Path, root: Path, source: Source) -> Iterator[Found]:
    archive = TarFile(path)
    changed, inside = _stamp(path), path.relative_to(root).with_suffix("").as_posix()
    known, has_split = _bare(PICTURES), False
    for stem in sorted(archive.stems):
        members = archive.stems[stem]
        extension = next((e for e in members if e in known), "")
        if not extension:
            continue
        row: dict[str, Any] = {}
        caption, problem = None, ""
        try:
            row = json.loads(archive.read(members["json"])) if "json" in members else {}
            text = next((archive.read(members[s[1:]]) for s in SIDECARS if s[1:] in members), None)
            caption = _caption(row) if text is None else _decoded(text)
        except (ValueError, AttributeError, RecursionError) as error:
            row, problem = {}, f"its text cannot be read: {error}"
        has_split |= "split" in row
        if source.split and not problem and row.get("split") != source.split:
            continue
        origin = InTar(archive, stem, extension, changed)
        name = f"{path}: {stem}.{extension}"
        yield Found(name=name, stem=f"{inside}/{stem}", origin=origin, caption=caption, row=row, problem=problem)
    if source.split and not has_split:
        raise RequestError(f"{path} tells no `split` in its JSON, but split is {source.split!r}; leave that out")


def _broken(name: str, path: Path, problem: str) -> Found:
    return Found(name=name, stem="", origin=InFile(path, path.parent), problem=problem)


def _caption(row: Mapping[str, Any]) -> str | None:
    said = next((row[name] for name in CAPTIONS if row.get(name) is not None), None)
    return None if said is None else str(said).strip()


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return _decoded(file.read(MAX_TEXT + 1))


def _decoded(data: bytes) -> str:
    if len(data) > MAX_TEXT:
        raise ValueError(f"it is longer than {MAX_TEXT:,} bytes")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.absolute()}:{status.st_size}:{status.st_mtime_ns}"


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _inside(name: str) -> bool:
    """Whether a relative path stays in its folder, whatever it is called."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and "\0" not in name and not parts.is_absolute() and ".." not in parts.parts and ":" not in name


def _bare(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(suffix[1:] for suffix in suffixes)
