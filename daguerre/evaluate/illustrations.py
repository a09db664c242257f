"""Real pictures as the measure: a table of illustrations, and what the judge sees in each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.decode import PictureError, decode
from ..data.parquet import ParquetTable, encoded
from ..files.durable import durable_write
from .drawings import to_tensor
from .lite0 import Features, Network, seen_by

COLUMNS = ("image", "caption", "label", "style_words", "family", "concept", "split")


@dataclass(frozen=True)
class Illustration:
    """A row of the table."""

    number: int  # of the row
    caption: str
    label: str
    style: str  # the words that name it in captions
    family: str  # pictures of one concept in one family share their outlines, in whatever style
    concept: str  # "" for things that no other picture shows as well
    split: str


class Illustrations(Sequence[Illustration]):
    """All rows of a Parquet file. Raises ValueError that names the file and what it lacks."""

    def __init__(self, path: Path):
        self.path, self.table = path, ParquetTable(path)
        if missing := [name for name in COLUMNS if name not in self.table.columns]:
            remedy = "`daguerre data build illustrations` makes one"
            raise ValueError(f"{path} is no table of illustrations: it has no column {', '.join(missing)}; {remedy}")
        self.items = [_row(number, row) for number, row in enumerate(self.table.rows(COLUMNS[1:]))]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def picture(self, number: int) -> Tensor:
        """The picture (3, H, W) of a row in [-1, 1], on white."""
        try:
            return to_tensor(decode(encoded(self.table.value(number, "image"), self.path.parent), "white"))
        except PictureError as error:
            raise ValueError(f"{self.path}: the picture of row {number} cannot be used: {error}") from error

    def seen(self, network: Network, kept: Path, looked_at: Callable[[int], object] = lambda count: None) -> Features:
        """Features of all pictures in their order, from the file `kept` if it is of this table; else it is made."""

        def pictures() -> Iterator[Tensor]:
            for item in self.items:
                yield self.picture(item.number)
                looked_at(item.number + 1)

        return kept_features(kept, self.sha256, lambda: seen_by(network, pictures()))

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        with self.path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()


def kept_features(path: Path, key: str, make: Callable[[], Features]) -> Features:
    """The features in a file if it was written under this key; else they are made and written."""
    try:
        with safe_open(path, "pt") as stored:
            if stored.metadata() == {"of": key}:
                return Features(*(stored.get_tensor(name) for name in Features._fields))
    except (OSError, SafetensorError):
        pass  # there is none yet, or none that is whole
    found = make()
    tensors = {name: value.contiguous() for name, value in found._asdict().items()}
    durable_write(path, lambda target: save_file(tensors, target, {"of": key}))
    return found


def _row(number: int, row: dict[str, Any]) -> Illustration:
    words = {name: str(row[name] or "") for name in COLUMNS[1:]}
    return Illustration(number, style=words.pop("style_words"), **words)
