import time

import pytest

from daguerre.data import checks
from daguerre.data.config import Data, Source
from daguerre.data.decode import PictureError, decode
from daguerre.data.manifest import gather
from tests.data.encoded import noise, saved, unusable
from tests.data.layouts import COUNT, manifest_of, picture, write_folder, write_parquet, write_table


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


def test_an_interrupted_check_is_not_begun_anew(tmp_path, monkeypatch):
    folder, cache = write_folder(tmp_path / "a", 100), tmp_path / "cache"

    def stop(count):
        if count == 70:
            raise KeyboardInterrupt

    data = Data(sources=(Source(path=folder),), cache=cache)
    with pytest.raises(KeyboardInterrupt):
        gather(data, looked_at=stop)
    looked, examine = [], checks.examine
    monkeypatch.setattr(checks, "examine", lambda data: [looked.append(data), examine(data)][1])
    gather(data)
    assert len(looked) <= 36
    with pytest.raises(KeyboardInterrupt):
        gather(data, looked_at=stop)
    looked.clear()
    gather(data)
    assert looked == []


def test_two_splits_of_a_table_are_remembered_both(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a", COUNT)
    data = Data(sources=tuple(Source(path=path, split=s) for s in ("train", "val")), cache=tmp_path / "cache")
    first = gather(data)
    monkeypatch.setattr(checks, "examine", None)
    assert gather(data) == first
    assert len(first.entries) == COUNT


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


def test_another_picture_of_a_pair_is_checked_when_it_changes(tmp_path):
    folder, cache = write_table(tmp_path / "a", COUNT, before=True), tmp_path / "cache"
    before = manifest_of(folder, cache=cache, others=("before",))
    (folder / "before-2.png").write_bytes(picture(77))
    after = manifest_of(folder, cache=cache, others=("before",))
    changed = [a.beside != b.beside for a, b in zip(after.entries, before.entries, strict=True)]
    assert changed == [i == 2 for i in range(COUNT)]
    (folder / "before-2.png").write_bytes(b"torn")
    ((_, reason),) = manifest_of(folder, cache=cache, others=("before",)).dropped
    assert reason.startswith("its before: ")
