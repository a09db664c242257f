"""Parquet tables of pictures: rows without their pictures first, a picture's row group when it is asked for."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

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
                    yield from part.to_pylist()
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
