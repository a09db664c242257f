import csv
import io
import json
import os
import sys
import tarfile

import pyarrow
import pyarrow.parquet
import pytest

from daguerre.data.config import Data
from daguerre.data.manifest import gather
from daguerre.request import RequestError
from tests.data.encoded import encoded
from tests.data.layouts import COUNT, manifest_of, picture, write_folder, write_parquet, write_table, write_tar


@pytest.mark.parametrize("write", [write_table, write_parquet, write_tar])
def test_a_split(tmp_path, write):
    source = write(tmp_path / "source", COUNT)
    assert [e.caption for e in manifest_of(source, split="val").entries] == ["picture 0", "picture 3"]
    with pytest.raises(RequestError, match=r"holds no picture of split 'test'"):
        manifest_of(source, split="test")


def test_a_split_of_a_folder_without_a_table(tmp_path):
    with pytest.raises(RequestError, match="no table with a column `split`"):
        manifest_of(write_folder(tmp_path, 1), split="val")


def test_archives_and_tables_inside_a_folder(tmp_path):
    for i, write in enumerate((write_parquet, write_tar)):
        write(tmp_path / "shards", COUNT, first=i * COUNT)
    write_table(tmp_path / "listed", COUNT, first=2 * COUNT)
    write_folder(tmp_path / "plain" / "deep", COUNT, first=3 * COUNT)
    manifest = manifest_of(tmp_path)
    assert {e.caption for e in manifest.entries} == {f"picture {i}" for i in range(4 * COUNT)}
    assert len(manifest.entries) == 4 * COUNT


def test_sources_that_cannot_be(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.doc").write_text("no pictures")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "torn.tar").write_bytes(b"\0" * 100)
    silent = write_folder(tmp_path / "silent", 2)
    for text in silent.glob("*.txt"):
        text.unlink()
    for path, message in [
        ("nowhere", "there is no such folder or file"),
        ("empty", "holds no picture; put PNG"),
        ("notes.doc", "is no source of pictures; name a folder"),
        ("torn.parquet", "is not a Parquet file"),
        ("torn.tar", "is not a whole tar archive"),
        ("silent", r"has no captions; put NAME\.txt beside NAME\.png"),
    ]:
        with pytest.raises(ValueError, match=rf"{path}.*{message}"):
            manifest_of(tmp_path / path)
    with pytest.raises(RequestError, match=r"set data\.sources"):
        gather(Data())
    for field, value in (("repeats", -1), ("weight", float("nan"))):
        with pytest.raises(RequestError, match=rf"{field} is .*must be 0 or more"):
            manifest_of(silent, **{field: value})
    with pytest.raises(RequestError, match=r"no/masks: there is no such folder"):
        manifest_of(silent, masks=tmp_path / "no" / "masks")


def test_missing_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"picture": [b"x"], "text": ["y"]}), path)
    with pytest.raises(RequestError, match=r"a\.parquet has no column `image`, only picture, text; rename"):
        manifest_of(path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    source = write_parquet(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'daguerre\[train\]'"):
        manifest_of(source)


def test_hostile_rows_of_tables(tmp_path):
    folder = tmp_path / "jsonl"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(picture(7))
    (folder / "good.png").write_bytes(picture(1))
    rows = [
        json.dumps({"file_name": name, "text": "x"}).encode()
        for name in (
            "good.png",
            "../secret.png",
            str(tmp_path / "secret.png"),
            "missing.png",
            "C:\\x.png",
            "a\0.png",
            ".",
            "",
        )
    ]
    lines = [*rows, b"{", b"[1]", b'{"file_name": "good.png", "text": "\xff"}', b'{"text": "no name"}', b""]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines))
    manifest = manifest_of(folder)
    assert len(manifest.entries) == 1
    assert [reason for _, reason in manifest.dropped] == [
        "file_name '../secret.png' leads out of the folder",
        f"file_name {str(tmp_path / 'secret.png')!r} leads out of the folder",
        "there is no such file",
        "file_name 'C:\\\\x.png' leads out of the folder",
        "file_name 'a\\x00.png' leads out of the folder",
        "file_name '.' leads out of the folder",
        "it has no file_name",
        *["it is no JSON object"] * 3,
        "it has no file_name",
    ]


def test_hostile_csv(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    with (tmp_path / "metadata.csv").open("wb") as file:
        file.write(b"file_name,text\na.png,fine\na.png,caf\xe9\na.png," + b"x" * 200_000 + b"\na.png,still fine\n")
    manifest = manifest_of(tmp_path)
    assert [e.caption for e in manifest.entries] == ["fine", "still fine"]
    assert [reason for _, reason in manifest.dropped] == [
        "its caption is not UTF-8 text",
        "field larger than field limit (131072)",
    ]
    assert csv.field_size_limit() == 131_072


def test_a_caption_that_is_no_text_in_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    raw = pyarrow.array([b"fine", b"caf\xe9"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"image": [picture(0), picture(1)], "text": text}), path)
    manifest = manifest_of(path)
    assert [e.caption for e in manifest.entries] == ["fine"]
    assert manifest.dropped == ((f"{path}: row 1", "its caption is not UTF-8 text"),)


def test_names_that_would_harm_a_terminal(tmp_path):
    (tmp_path / "a\x1b[31m.png").write_bytes(b"bad")
    (tmp_path / "b.png").write_bytes(picture(0))
    manifest = manifest_of(tmp_path, caption="x")
    assert manifest.dropped[0][0] == f"{tmp_path}/a\\x1b[31m.png"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "b.png").write_bytes(picture(0))
    dropped = dict(manifest_of(tmp_path, caption="x").dropped)
    assert dropped == {
        str(tmp_path / "pipe.png"): "it is no regular file",
        str(tmp_path / "dangling.png"): "there is no such file",
    }


def test_linked_folders_and_circles(tmp_path):
    folder = write_folder(tmp_path / "a", 2)
    other = write_folder(tmp_path / "b", 2, first=5)
    (folder / "linked").symlink_to(other)
    (other / "back").symlink_to(folder)
    (other / "self").symlink_to(other)
    assert [e.caption for e in manifest_of(folder).entries] == [f"picture {i}" for i in (0, 1, 5, 6)]


def test_hostile_archives(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in [
            ("../../evil.png", picture(0)), ("/abs.png", picture(1)), ("good.png", picture(2)), ("good.txt", b"good"),
            ("long.png", picture(3)), ("long.txt", b"x" * 200_000), ("list.png", picture(4)), ("list.json", b"[1]"),
            ("list.txt", b"list"),
            ("torn.png", picture(5)[:50]), ("photo.v2.png", picture(6)), ("._good.png", b"\0\5\x16\7"),
        ]:  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    manifest = manifest_of(path, caption="as named")
    assert sorted(e.caption for e in manifest.entries) == ["as named", "as named", "good"]
    assert sorted(e.read() for e in manifest.entries) == sorted(picture(i) for i in range(3))
    assert {name.rpartition(" ")[2]: reason.split(":")[0] for name, reason in manifest.dropped} == {
        "long.png": "its text cannot be read",
        "list.png": "its text cannot be read",
        "torn.png": "it is damaged",
        "photo.v2.png": "there is no photo.png or the like; in an archive a picture's name ends at the first dot",
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_good_pictures_with_wrong_endings(tmp_path):
    for name, data in {"jpeg.png": encoded(form="JPEG"), "png.jpg": encoded(), "gif.webp": encoded(form="GIF")}.items():
        (tmp_path / name).write_bytes(data)
    assert len(manifest_of(tmp_path, caption="x").entries) == 3
