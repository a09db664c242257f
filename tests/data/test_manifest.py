from dataclasses import replace

import pytest
from PIL import Image

from daguerre.data.config import Data, Source
from daguerre.data.manifest import gather
from daguerre.request import RequestError
from tests.data.layouts import COUNT, manifest_of, picture, write_folder, write_parquet, write_table, write_tar


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


def test_pictures_without_captions_where_none_are_needed(tmp_path):
    folder = write_folder(tmp_path, 2)
    (folder / "0.txt").unlink()
    assert manifest_of(folder).dropped == ((str(folder / "0.png"), "it has no caption"),)
    assert [e.caption for e in manifest_of(folder, captions=False).entries] == ["", "picture 1"]
    assert [e.caption for e in manifest_of(folder, caption="a thing").entries] == ["a thing", "picture 1"]


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


def test_only_rows_that_match(tmp_path):
    for write in (write_table, write_parquet, write_tar):
        path = write(tmp_path / write.__name__, COUNT)
        column = next(name for name, value in manifest_of(path).entries[0].row.items() if value == "picture 0")
        some = manifest_of(path, match={column: ("picture 1", "*[03]")})
        assert [e.caption for e in some.entries] == ["picture 0", "picture 1", "picture 3"]
        with pytest.raises(RequestError, match="holds no picture whose columns match"):
            manifest_of(path, match={column: ("another",)})
