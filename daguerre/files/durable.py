"""Files that are either whole or absent, also after a crash or a power cut."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from safetensors import SafetensorError


def sync(path: Path) -> None:
    """Forces a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def durable_write(path: Path, write: Callable[[Path], None], *, overwrite: bool = True) -> None:
    """Calls `write` with a temporary path beside `path`, then moves the result into place in one step.

    `write` may make a file or a folder. Raises FileExistsError if `path` exists and `overwrite` is off, and
    for a folder always, because no single step replaces one. Whatever goes wrong, `path` keeps its old
    content and no temporary file stays.
    """
    _make_folder(path.parent)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
    try:
        target = scratch / path.name
        with _disk_errors(path):
            write(target)
        inside = sorted(target.rglob("*"), reverse=True) if target.is_dir() else []
        for item in [*inside, target]:
            if item.is_file():
                item.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
            sync(item)
        if target.is_dir():
            _move_folder(target, path)
        elif overwrite:
            target.replace(path)
        else:
            os.link(target, path)  # unlike a check followed by a rename, this cannot lose a race
        sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def durable_bytes(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Writes bytes as `durable_write` does."""

    def write(target: Path) -> None:
        target.write_bytes(data)

    durable_write(path, write, overwrite=overwrite)


def durable_new(wanted: Path, data: bytes) -> Path:
    """Writes bytes under the first free of such names as a.png, a-2.png, a-3.png; other processes may do so, too."""
    for n in count(1):
        path = wanted if n == 1 else wanted.with_stem(f"{wanted.stem}-{n}")
        if not path.exists():
            with suppress(FileExistsError):  # another process was faster
                durable_bytes(path, data, overwrite=False)
                return path
    raise AssertionError("unreachable: there is always another name")


def durable_text(path: Path, text: str) -> None:
    """Writes UTF-8 text as `durable_write` does; what UTF-8 cannot say becomes "?"."""
    durable_bytes(path, text.encode("utf-8", errors="replace"))


def _make_folder(path: Path) -> None:
    """That there is a file in its place is no FileExistsError, for which callers would try another name."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "a file is where a folder has to be", str(path)) from error


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """safetensors tells of a full disk by an error of its own; this makes it the OSError that it was."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _move_folder(source: Path, path: Path) -> None:
    """Moves a folder to a path that does not exist or is an empty folder."""
    try:
        source.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, "exists and is not replaced by a folder", str(path)) from error
        raise
