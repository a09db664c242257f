"""WebDataset archives: a tar whose members of one stem are a picture and what belongs to it. Never unpacked."""

import tarfile
from pathlib import Path
from typing import NamedTuple

from .decode import PictureError


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
        with self.path.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
        if len(data) < member.size:
            raise PictureError("the archive ends before it does")
        return data
