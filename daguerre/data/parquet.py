"""Parquet tables of pictures: rows without their pictures first, a picture's row group when it is asked for."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..request import RequestError
from .config import Source
from .decode import PictureError
from .found import Found, file_bytes, said_in, stamp, stays_inside

PARQUET = (".parquet",)
KEPT = 64_000_000  # bytes of row groups that stay in memory per column


class ParquetTable:
    """One file. Raises ValueError that names it where it is no Parquet file; ModuleNotFoundError without pyarrow."""

    def __init__(self, path: Path):
        try:
            import pyarrow.parquet as parquet  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("reading Parquet needs pyarrow: pip install 'daguerre[train]'") from error
        self.path = path
        try:
            with parquet.ParquetFile(path) as file:
                self.columns: dict[str, Any] = {field.name: field.type for field in file.schema_arrow}
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise self._unreadable(error) from error
        self._ends = list(accumulate(sizes))
        self._groups: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def holds_pictures(self, column: str) -> bool:
        """Whether a column is of encoded pictures: bytes, or a struct with bytes."""
        kind = str(self.columns[column])
        return kind in ("binary", "large_binary") or (kind.startswith("struct<") and "bytes: " in kind)

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """All rows in their order, with these columns only."""
        import pyarrow.parquet as parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                for part in file.iter_batches(batch_size=256, columns=list(columns)):
                    yield from _plain_rows(part)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def value(self, row: int, column: str) -> Any:
        """One cell; the cells of its row group stay in memory for a while."""
        group = bisect_right(self._ends, row)
        with self._lock:
            cells = self._group(group, column)
        return cells[row - (self._ends[group - 1] if group else 0)].as_py()

    def _group(self, group: int, column: str) -> Any:
        import pyarrow.parquet as parquet

        key = group, column
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        try:
            with parquet.ParquetFile(self.path) as file:
                cells = file.read_row_group(group, columns=[column]).column(0)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        self._groups[key] = cells
        while len(self._groups) > 1 and sum(held.nbytes for held in self._groups.values()) > KEPT:
            self._groups.popitem(last=False)
        return cells

    def _unreadable(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path} is not a Parquet file of captioned pictures: {error}")


def _plain_rows(part: Any) -> Iterator[dict[str, Any]]:
    columns = []
    for cells in part.columns:
        try:
            columns.append(cells.to_pylist())
        except UnicodeDecodeError:  # told apart later, so that one bad caption spoils no table
            raw = cells.cast("binary").to_pylist()
            columns.append([cell and cell.decode(errors="surrogateescape") for cell in raw])
    for row in zip(*columns, strict=True):
        yield dict(zip(part.schema.names, row, strict=True))


@dataclass(frozen=True)
class InParquet:
    """A row of a Parquet file."""

    table: ParquetTable
    number: int
    changed: str

    def stamp(self, columns: Sequence[str]) -> str:
        return f"{self.changed}:{self.number}"

    def read(self, column: str) -> bytes:
        name = column or "image"
        if name not in self.table.columns:
            raise PictureError(f"its table has no column {name!r}")
        try:
            cell = self.table.value(self.number, name)
        except (ValueError, IndexError) as error:  # the file was whole when it was listed
            raise PictureError(str(error)) from error
        return encoded(cell, self.table.path.parent)


def encoded(cell: Any, folder: Path) -> bytes:
    """The picture of a cell: its bytes, or the file in `folder` that it names. Raises PictureError or OSError."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
    if isinstance(data, bytes):
        return data
    if not isinstance(path, str):
        raise PictureError("its cell of the table is empty")
    if not stays_inside(path):
        raise PictureError(f"its path {path!r} leads out of the table's folder")
    return file_bytes(folder / path)


def parquet_pictures(path: Path, root: Path, source: Source) -> Iterator[Found]:
    """The rows of a Parquet file; masks have the names ROOT/FILE/ROW. Raises RequestError for missing columns."""
    table = ParquetTable(path)
    if "image" not in table.columns:
        has = ", ".join(table.columns)
        raise RequestError(f"{path} has no column `image`, only {has}; rename the one of pictures")
    plain = [name for name in table.columns if name != "image" and not table.holds_pictures(name)]
    if source.split and "split" not in plain:
        raise RequestError(f"{path} has no column `split`, but split is {source.split!r}; leave that setting out")
    changed, inside = stamp(path), path.relative_to(root).with_suffix("").as_posix()
    for number, row in enumerate(table.rows(plain)) if plain else ((n, {}) for n in range(len(table))):
        if not source.split or row.get("split") == source.split:
            origin = InParquet(table, number, changed)
            yield Found(
                name=f"{path}: row {number}", stem=f"{inside}/{number}", origin=origin, caption=said_in(row), row=row
            )
