import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from daguerre.files import durable
from daguerre.files.durable import durable_new, durable_text, durable_write


def text(content):
    return lambda target: target.write_text(content)


def folder(content):
    def write(target: Path) -> None:
        (target / "inner").mkdir(parents=True)
        (target / "inner" / "file").write_text(content)

    return write


def names(path):
    return sorted(item.name for item in path.iterdir())


def test_a_file_is_written_with_the_folders_it_needs(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    durable_write(path, text("new"))
    assert path.read_text() == "new"
    assert names(path.parent) == ["picture.png"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * 255)
    durable_write(path, text("new"))
    assert names(tmp_path) == [path.name]


def test_an_old_file_is_replaced_only_with_leave(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        durable_write(path, text("new"), overwrite=False)
    assert path.read_text() == "old"
    durable_write(path, text("new"))
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_folder_appears_whole_and_replaces_nothing(tmp_path):
    path = tmp_path / "step-1"
    durable_write(path, folder("one"))
    with pytest.raises(FileExistsError, match="step-1"):
        durable_write(path, folder("two"))
    assert (path / "inner" / "file").read_text() == "one"
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        durable_write(tmp_path / "file", folder("two"))
    assert names(tmp_path) == ["file", "step-1"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def write(target: Path) -> None:
        target.write_text("half")
        raise error

    with pytest.raises(type(error)):
        durable_write(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_content_reaches_the_disk_before_the_name_and_that_before_the_return(tmp_path, monkeypatch, overwrite):
    path, synced = tmp_path / "file", []
    monkeypatch.setattr(durable, "sync", lambda item: synced.append((item.name, path.exists())))
    durable_write(path, text("new"), overwrite=overwrite)
    assert synced == [("file", False), (tmp_path.name, True)]


def test_everything_in_a_folder_reaches_the_disk(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(handle) or real(handle))
    durable_write(tmp_path / "step-1", folder("one"))
    assert len(synced) == 4  # the file, its folder, the folder around it, and the folder that holds the name


def test_others_can_read_what_was_written(tmp_path):
    def write(target):
        target.touch(mode=0o600)

    durable_write(tmp_path / "shared", write)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_full_disk_is_an_os_error_whoever_meets_it(tmp_path):
    def write(target):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"No space left on device: '.*model'") as raised:
        durable_write(tmp_path / "model", write)
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(SafetensorError, match="dtype"):
        durable_write(tmp_path / "model", lambda target: (_ for _ in ()).throw(SafetensorError("unknown dtype")))


def test_text_is_written_whole_and_in_utf8(tmp_path):
    durable_text(tmp_path / "note.txt", "红苹果 \ud800\n")
    assert (tmp_path / "note.txt").read_bytes() == "红苹果 ?\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_new_file_takes_the_first_free_name(tmp_path: Path) -> None:
    for n, name in enumerate(("a.png", "a-2.png", "a-3.png")):
        assert durable_new(tmp_path / "a.png", bytes([n])) == tmp_path / name
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "a-2.png")] == [b"\0", b"\1"]


def test_a_file_in_place_of_the_folder_is_told_and_no_other_name_tried(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a picture")
    with pytest.raises(NotADirectoryError, match=r"a file is where a folder has to be: '.*a\.png'"):
        durable_new(tmp_path / "a.png" / "film.webp", b"")
