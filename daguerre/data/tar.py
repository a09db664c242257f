"""WebDataset archives: a tar whose members of one stem are a picture and what belongs to it. Never unpacked."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..request import RequestError
from .config import Source
from .decode import PictureError
from .found import MAX_BYTES, PICTURES, SIDECARS, Found, as_text, said_in, stamp

ARCHIVE = (".tar",)
ENDINGS = tuple(suffix[1:] for suffix in PICTURES)


class Member(NamedTuple):
    """Where the bytes of a file lie in an archive."""

    offset: int
    size: int


class TarFile:
    """The index of an uncompressed archive: of each stem, its members by extension, "jpg" or "before.png".

    Names inside are labels only; links and devices are passed over. Raises ValueError that names the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.stems: dict[str, dict[str, Member]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    folder, slash, name = member.name.rpartition("/")
                    stem, dot, extension = name.partition(".")
                    if member.isreg() and not member.issparse() and stem and dot:
                        members = self.stems.setdefault(f"{folder}{slash}{stem}", {})
                        members[extension.lower()] = Member(member.offset_data, member.size)
        except (OSError, ValueError, tarfile.TarError, EOFError) as error:
            remedy = "an uncompressed tar is wanted"
            raise ValueError(f"{path} is not a whole tar archive: {error}; {remedy}") from error

    def read(self, member: Member) -> bytes:
        """The bytes of a member; raises PictureError where the archive is shorter than its index."""
        if member.size > MAX_BYTES:
            raise PictureError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
        with self.path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
        if len(data) < member.size:
            raise PictureError("the archive ends before it does")
        return data


@dataclass(frozen=True)
class InTar:
    """A picture in an archive; other pictures of its stem are STEM.COLUMN.png and the like."""

    archive: TarFile
    stem: str
    extension: str
    changed: str

    def stamp(self, columns: Sequence[str]) -> str:
        return f"{self.changed}:{self.stem}.{self.extension}"

    def read(self, column: str) -> bytes:
        members = self.archive.stems[self.stem]
        endings = [f"{column}.{ending}" for ending in ENDINGS] if column else [self.extension]
        if (found := next((members[ending] for ending in endings if ending in members), None)) is None:
            raise PictureError(f"its archive has no picture {self.stem}.{column}.png or the like")
        return self.archive.read(found)


def tar_pictures(path: Path, root: Path, source: Source) -> Iterator[Found]:
    """The stems of an archive that have a picture; masks have the names ROOT/FILE/STEM. Raises RequestError."""
    archive = TarFile(path)
    changed, inside = stamp(path), path.relative_to(root).with_suffix("").as_posix()
    has_split = False
    for stem in sorted(archive.stems):
        extensions = [e for e in archive.stems[stem] if e.rpartition(".")[2] in ENDINGS]
        if not extensions:
            continue
        extension = min(extensions, key=lambda e: "." in e)  # the first without another dot
        row: dict[str, Any] = {}
        caption, problem = None, ""
        if "." in extension:
            problem = f"there is no {stem}.png or the like; in an archive a picture's name ends at the first dot"
        else:
            try:
                row, caption = _words(archive, archive.stems[stem])
            except (ValueError, OSError) as error:
                problem = f"its text cannot be read: {error}"
        has_split |= "split" in row
        if problem or not source.split or row.get("split") == source.split:
            origin = InTar(archive, stem, extension, changed)
            name = f"{path}: {stem}.{extension}"
            yield Found(name=name, stem=f"{inside}/{stem}", origin=origin, caption=caption, row=row, problem=problem)
    if source.split and not has_split:
        raise RequestError(f"{path} tells no `split` in its JSON, but split is {source.split!r}; leave that out")


def _words(archive: TarFile, members: Mapping[str, Member]) -> tuple[dict[str, Any], str | None]:
    """What the JSON of a picture says, and its caption."""
    row = {}
    if "json" in members:
        try:
            row = json.loads(archive.read(members["json"]))
        except RecursionError as error:
            raise ValueError("its JSON is too deep") from error
        if not isinstance(row, dict):
            raise ValueError("its JSON is no object")
    text = next((members[suffix[1:]] for suffix in SIDECARS if suffix[1:] in members), None)
    return row, said_in(row) if text is None else as_text(archive.read(text))
