"""Pictures that a source names, before anybody has looked at them, and the words that come with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_ISREG
from typing import Any, Protocol

from .decode import PictureError

PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
SIDECARS = (".txt", ".caption")
CAPTIONS = ("caption", "text")  # columns, the first that there is
MAX_BYTES = 256_000_000  # of a picture's file
MAX_TEXT = 100_000  # bytes of a caption's file; more is refused as too long


class Origin(Protocol):
    """Where a picture's bytes are. `read` raises PictureError or OSError."""

    def stamp(self, columns: Sequence[str]) -> str:
        """Changes when the bytes may have changed, those of `columns` included; raises OSError where there are none."""

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
    mask: Path | None = None


def said_in(row: Mapping[str, Any]) -> str | None:
    """The caption that a row of a table has."""
    said = next((row[name] for name in CAPTIONS if row.get(name) is not None), None)
    return None if said is None else str(said).strip()


def as_text(data: bytes) -> str:
    """A caption from a file; raises ValueError."""
    if len(data) > MAX_TEXT:
        raise ValueError(f"it is longer than {MAX_TEXT:,} bytes")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error


def stamp(path: Path) -> str:
    """Changes when a file is written anew; raises OSError where there is none."""
    status = path.stat()
    return f"{path.absolute()}:{status.st_size}:{status.st_mtime_ns}"


def stem_of(path: Path, root: Path) -> str:
    """The place of a picture inside its source, without suffix."""
    return path.relative_to(root).with_suffix("").as_posix()


def stays_inside(name: str) -> bool:
    """Whether a path in a table is of a file in the table's folder or below, whatever the file is called."""
    path = PurePosixPath(name.replace("\\", "/"))
    rooted = path.is_absolute() or PureWindowsPath(name).drive
    return bool(path.name) and "\0" not in name and not rooted and ".." not in path.parts


def file_bytes(path: Path) -> bytes:
    """The bytes of a picture's file; raises PictureError if it cannot be one, OSError if it cannot be read."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise PictureError("it is no regular file")
    if status.st_size > MAX_BYTES:
        raise PictureError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    return path.read_bytes()


def printable(name: str) -> str:
    """A name with escapes in place of what would harm a terminal or is not Unicode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
