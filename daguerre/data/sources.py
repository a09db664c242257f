"""Where pictures come from: folders, Parquet files and WebDataset archives, as one list."""

from collections.abc import Iterator
from pathlib import Path

from ..request import RequestError
from .config import Source
from .folder import folder_pictures
from .found import PICTURES, Found, stem_of
from .parquet import PARQUET, parquet_pictures
from .tar import ARCHIVE, tar_pictures


def found_in(source: Source) -> Iterator[Found]:
    """All that a source names, sorted by place inside it. Raises RequestError that says what to do."""
    path = source.path
    if not path.exists():
        raise RequestError(f"{path}: there is no such folder or file; sources name where your pictures are")
    if path.is_dir():
        yield from folder_pictures(path, source)
    elif path.suffix.lower() in PARQUET:
        yield from parquet_pictures(path, path.parent, source)
    elif path.suffix.lower() in ARCHIVE:
        yield from tar_pictures(path, path.parent, source)
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
    return {stem_of(p, folder): p for p in files}
