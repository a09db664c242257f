import io
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from daguerre.data.pictures import load_parquet


def encoded(color, size=(8, 8), form="PNG"):
    memory = io.BytesIO()
    Image.new("RGBA" if form == "PNG" else "RGB", size, color).save(memory, form)
    return memory.getvalue()


def write(path, *rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def row(data, split="train", **more):
    return {"image": {"bytes": data, "path": None}, "split": split, **more}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "pictures.parquet"


def test_the_pictures_of_one_split_in_their_order(file):
    colors = [(10, 20, 30, 255), (40, 50, 60, 255), (70, 80, 90, 255)]
    splits = ["train", "val", "train"]
    write(file, *(row(encoded(c), s, caption=f"{c[0]}") for c, s in zip(colors, splits, strict=True)))
    pictures = load_parquet(file, "train", 8)
    assert len(pictures) == 2
    assert pictures.pixels.shape == (2, 3, 8, 8)
    assert pictures.pixels.dtype == torch.uint8
    assert pictures.pixels[:, :, 3, 3].tolist() == [[10, 20, 30], [70, 80, 90]]
    assert pictures.rows == [{"caption": "10", "split": "train"}, {"caption": "70", "split": "train"}]
    assert load_parquet(file, "val", 8).rows[0]["caption"] == "40"


def test_batches_are_floats_from_minus_one_to_one(file):
    write(file, row(encoded("black")), row(encoded("white")), row(encoded((51, 102, 204, 255))))
    batch = load_parquet(file, "train", 8).batch(torch.tensor([1, 2, 0, 2]))
    assert batch.shape == (4, 3, 8, 8)
    assert batch[0].eq(1).all()
    assert batch[2].eq(-1).all()
    torch.testing.assert_close(batch[3, :, 0, 0], torch.tensor([-0.6, -0.2, 0.6]))


def test_what_is_transparent_is_white(file):
    write(file, row(encoded((0, 0, 0, 0))), row(encoded((0, 0, 0, 102))))
    pixels = load_parquet(file, "train", 8).pixels
    assert pixels[0].eq(255).all()
    assert pixels[1].eq(153).all()


def test_a_palette_with_transparency_is_white_there_too(file):
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([200, 0, 0])
    memory = io.BytesIO()
    picture.save(memory, "PNG", transparency=0)
    assert load_parquet(write(file, row(memory.getvalue())), "train", 8).pixels.eq(255).all()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG", "GIF"])
def test_other_sizes_and_formats(file, form):
    write(file, row(encoded((200, 100, 50), (20, 12), form)))
    pixels = load_parquet(file, "train", 16).pixels
    assert pixels.shape == (1, 3, 16, 16)
    assert np.abs(pixels[0, :, 8, 8].numpy().astype(int) - [200, 100, 50]).max() <= 3


def test_bare_bytes_are_pictures_as_well(file):
    write(file, {"image": encoded("red"), "split": "train"})
    assert load_parquet(file, "train", 8).pixels[0, :, 0, 0].tolist() == [255, 0, 0]


whole = encoded("red", (32, 32))


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", whole[:-32], whole[:30], whole[:45] + b"\0\0\0" + whole[48:], None],
    ids=["empty", "text", "cut", "cut early", "flipped", "null"],
)
def test_a_damaged_picture_is_named_by_file_and_row(file, data):
    write(file, row(encoded("red"), "val"), row(encoded("red")), row(data))
    with pytest.raises(ValueError, match=r"pictures\.parquet: the picture of row 2 cannot be used"):
        load_parquet(file, "train", 8)
    assert len(load_parquet(file, "val", 8)) == 1


def test_a_picture_too_large_is_damaged(file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write(file, row(encoded("red", (32, 32))))
    with pytest.raises(ValueError, match=r"row 0 cannot be used: it is too large"):
        load_parquet(file, "train", 8)


def test_missing_columns_are_named(file):
    write(file, {"image": encoded("red"), "caption": "red"})
    with pytest.raises(ValueError, match=r"pictures\.parquet.*no column split, label$"):
        load_parquet(file, "train", 8, ["caption", "label"])


def test_a_split_without_pictures_is_named(file):
    write(file, row(encoded("red")))
    with pytest.raises(ValueError, match=r"pictures\.parquet: no picture has split 'validation'"):
        load_parquet(file, "validation", 8)


@pytest.mark.parametrize("content", [b"", b"not a table at all"])
def test_another_kind_of_file_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"pictures\.parquet is not a Parquet file"):
        load_parquet(file, "train", 8)


def test_a_file_cut_off_is_named(file):
    write(file, row(encoded("red")))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"pictures\.parquet is not a Parquet file"):
        load_parquet(file, "train", 8)


def test_without_pyarrow_the_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'daguerre\[train\]'"):
        load_parquet(file, "train", 8)
