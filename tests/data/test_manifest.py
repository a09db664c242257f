import csv
import json
import os
import sys
import time
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from daguerre.data import checks
from daguerre.data.config import Data, Source
from daguerre.data.decode import PictureError, decode
from daguerre.data.manifest import gather
from daguerre.request import RequestError
from tests.data.encoded import encoded, noise, saved, unusable
from tests.data.layouts import picture, write_folder, write_parquet, write_table, write_tar

COUNT = 6


def manifest_of(*paths, **options):
    cache = options.pop("cache", None)
    others = {k: options.pop(k) for k in ("captions", "others", "at_least") if k in options}
    return gather(Data(sources=tuple(Source(path=p, **options) for p in paths), cache=cache), **others)


@pytest.fixture(params=[write_folder, write_table, write_parquet, write_tar], ids=lambda f: f.__name__[6:])
def source(request, tmp_path):
    """The same six pictures in every layout."""
    return request.param(tmp_path / "source", COUNT)


def test_every_layout_says_the_same(source):
    manifest = manifest_of(source)
    assert manifest.dropped == ()
    assert [e.caption for e in manifest.entries] == [f"picture {i}" for i in range(COUNT)]
    assert [(e.width, e.height) for e in manifest.entries] == [(16 + i, 12) for i in range(COUNT)]
    assert [e.read() for e in manifest.entries] == [picture(i) for i in range(COUNT)]
    assert len({e.name for e in manifest.entries}) == COUNT
    assert all(str(source) in e.name for e in manifest.entries)


def test_the_hash_is_of_contents_wherever_they_are(tmp_path):
    layouts = write_folder, write_table, write_parquet, write_tar
    hashes = {manifest_of(write(tmp_path / write.__name__, COUNT)).sha256 for write in layouts}
    assert len(hashes) == 1


def test_the_hash_changes_with_all_that_training_sees(tmp_path):
    folder = write_folder(tmp_path / "a", COUNT)
    same = [manifest_of(folder), manifest_of(folder, repeats=2), manifest_of(folder, weight=0.5)]
    (folder / "3.txt").write_text("another")
    said = manifest_of(folder)
    (folder / "3.png").write_bytes(picture(99))
    drawn = manifest_of(folder)
    assert len({m.sha256 for m in [*same, said, drawn]}) == 5


def test_a_pair_of_pictures(tmp_path):
    for write in (write_table, write_parquet, write_tar):
        source = write(tmp_path / write.__name__, COUNT, before=True)
        manifest = manifest_of(source, others=("before",))
        assert [e.read_other("before") for e in manifest.entries] == [picture(i + 100) for i in range(COUNT)]
        assert len({e.beside["before"] for e in manifest.entries}) == COUNT
        with pytest.raises(RequestError, match=r"0 of 6 pictures can be used\. .*its after: "):
            manifest_of(source, others=("after",))


def test_other_columns_are_kept_without_their_pictures(tmp_path):
    for write in (write_table, write_parquet, write_tar):
        entry = manifest_of(write(tmp_path / write.__name__, 1, before=True)).entries[0]
        assert entry.row["artist"] == "Ada"
        assert not any(isinstance(value, bytes | dict) for value in entry.row.values())


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


def test_sources_add_up_with_their_own_settings(tmp_path):
    a, b = write_folder(tmp_path / "a", 2), write_folder(tmp_path / "b", 2, first=5)
    data = Data(sources=(Source(path=a, repeats=2.5), Source(path=b, weight=0.5)))
    seen = [(e.repeats, e.weight) for e in gather(data).entries]
    assert seen == [(2.5, 1.0)] * 2 + [(1.0, 0.5)] * 2


def test_masks(tmp_path):
    folder = write_folder(tmp_path / "source", 3)
    masks = folder / "masks"  # inside, as people have them
    masks.mkdir()
    for i in (0, 2):
        Image.new("L", (16, 12), 255).save(masks / f"{i}.png")
    entries = manifest_of(folder, masks=masks).entries
    assert [e.read_mask() is not None for e in entries] == [True, False, True]
    assert [set(e.beside) for e in entries] == [{"mask"}, set(), {"mask"}]
    (masks / "0.png").write_bytes(b"torn")
    manifest = manifest_of(folder, masks=masks)
    assert len(manifest.entries) == 2
    assert manifest.dropped[0][1].startswith("its mask: it is damaged")


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


def test_pictures_without_captions_where_none_are_needed(tmp_path):
    folder = write_folder(tmp_path, 2)
    (folder / "0.txt").unlink()
    assert manifest_of(folder).dropped == ((str(folder / "0.png"), "it has no caption"),)
    assert [e.caption for e in manifest_of(folder, captions=False).entries] == ["", "picture 1"]
    assert [e.caption for e in manifest_of(folder, caption="a thing").entries] == ["a thing", "picture 1"]


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


def hostile_captions():
    yield from [(f"long {i}", b"word " * 2_000_000) for i in range(4)]
    yield from [(f"nul {i}", b"a cat\0 and a dog") for i in range(4)]
    yield from [(f"bytes {i}", b"caf\xe9 \xff\xfe") for i in range(4)]
    yield from [(f"path {i}", b"../../etc/passwd") for i in range(4)]
    yield from [(f"markup {i}", b"<p>a cat</p><script>alert(1)</script>") for i in range(4)]


def test_a_dataset_with_bad_pictures_and_hostile_captions(tmp_path):
    folder = write_folder(tmp_path / "set", 440)
    bad = dict(list(unusable().items())[:38]) | {"._0.png": b"\0\5\x16\7", "drawing.svg": b"<svg/>"}
    for name, data in bad.items():
        path = folder / (name if "." in name else f"{name.replace(' %', '').replace(' ', '-')}.png")
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("a bad one")
    for name, text in hostile_captions():
        (folder / f"{name}.png").write_bytes(picture(hash(name) % 9))
        (folder / f"{name}.txt").write_bytes(text)
    manifest = manifest_of(folder)
    assert len(manifest.entries) == 440
    assert len(manifest.dropped) == len(bad) + 20
    assert all(reason.startswith(("it is", "it has", "its ", "SVG")) for _, reason in manifest.dropped)
    assert {name.rpartition("/")[2].split(" ")[0] for name, reason in manifest.dropped if "caption" in reason} == {
        "long", "nul", "bytes", "path", "markup"
    }  # fmt: skip
    assert manifest.summary()["kept"] == 440
    assert len(manifest.summary()["dropped"]) == len(bad) + 20


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


def test_good_pictures_with_wrong_endings(tmp_path):
    for name, data in {"jpeg.png": encoded(form="JPEG"), "png.jpg": encoded(), "gif.webp": encoded(form="GIF")}.items():
        (tmp_path / name).write_bytes(data)
    assert len(manifest_of(tmp_path, caption="x").entries) == 3


def test_a_picture_that_turns_bad_after_the_check(source):
    manifest = manifest_of(source)
    for path in [source] if source.is_file() else source.glob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    for i, entry in enumerate(manifest.entries):
        try:
            data = entry.read()
        except (PictureError, OSError):
            continue
        if data != picture(i):  # what was read before may be in memory still
            with pytest.raises(PictureError):
                decode(data, "white")


def test_the_second_start_opens_no_picture(source, tmp_path, monkeypatch):
    first = manifest_of(source, cache=tmp_path / "cache")
    monkeypatch.setattr(checks, "examine", None)
    assert manifest_of(source, cache=tmp_path / "cache") == first


def test_only_what_changed_is_checked_again(tmp_path, monkeypatch):
    folder, cache = write_folder(tmp_path / "a", COUNT), tmp_path / "cache"
    before = manifest_of(folder, cache=cache)
    (folder / "2.png").write_bytes(b"torn")
    (folder / "9.png").write_bytes(picture(9))
    (folder / "9.txt").write_text("new")
    looked, examine = [], checks.examine
    monkeypatch.setattr(checks, "examine", lambda data: [looked.append(data), examine(data)][1])
    after = manifest_of(folder, cache=cache)
    assert sorted(looked) == sorted([b"torn", picture(9)])
    assert after.dropped[0][0] == str(folder / "2.png")
    assert len(after.entries) == len(before.entries)
    looked.clear()
    assert manifest_of(folder, cache=cache) == after
    assert looked == []


@pytest.mark.parametrize("junk", [b"", b"{", b"[1]", b'{"a": {"b": 1}}', b'{"a": 5}'])
def test_damaged_results_of_checks_are_found_out_anew(tmp_path, junk):
    folder, cache = write_folder(tmp_path / "a", COUNT), tmp_path / "cache"
    before = manifest_of(folder, cache=cache)
    (kept,) = cache.glob("checked-*.json")
    kept.write_bytes(junk)
    assert manifest_of(folder, cache=cache) == before


def test_a_second_start_takes_no_second(tmp_path):
    source = tmp_path / "many"
    source.mkdir()
    data = saved(noise())
    for i in range(1500):
        (source / f"{i}.png").write_bytes(data)
        (source / f"{i}.txt").write_text(f"picture {i}")
    manifest_of(source, cache=tmp_path / "cache")
    begun = time.process_time()
    assert len(manifest_of(source, cache=tmp_path / "cache").entries) == 1500
    assert time.process_time() - begun < 1


def test_held_out_pictures_are_chosen_by_content(tmp_path):
    manifest = manifest_of(write_folder(tmp_path / "a", 20))
    train, held = manifest.held_out(0.25)
    assert (len(train), len(held)) == (15, 5)
    turned = replace(manifest, entries=manifest.entries[::-1])
    assert {e.sha256 for e in turned.held_out(0.25)[1]} == {e.sha256 for e in held}
    twice = replace(manifest, entries=manifest.entries * 2)
    assert {e.sha256 for e in twice.held_out(0.25)[1]} == {e.sha256 for e in held}
    assert manifest.held_out(0.0) == (manifest.entries, ())
    assert len(manifest.held_out(0.001)[1]) == 1
    assert len(manifest.held_out(0.999)[0]) == 1
    with pytest.raises(RequestError, match="held_out is 1"):
        manifest.held_out(1.0)


def test_one_picture_is_never_held_out(tmp_path):
    manifest = manifest_of(write_folder(tmp_path, 1))
    assert manifest.held_out(0.5) == (manifest.entries, ())
