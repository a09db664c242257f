"""`daguerre data`, in this process."""

import json
from dataclasses import replace
from functools import partial

import pytest

from daguerre.data import openmoji
from daguerre.data.illustrations import build as illustrations
from tests.data.encoded import encoded
from tests.data.layouts import picture, write_folder
from tests.data.stand_in_illustrations import stand_in
from tests.data.stand_in_openmoji import write_package


@pytest.fixture
def data(ended):
    """Runs `daguerre data ...`."""
    return partial(ended, "data")


@pytest.fixture
def folder(tmp_path):
    """Five pictures, one of them twice, one wide, and two that are bad."""
    folder = write_folder(tmp_path / "set", 4)
    (folder / "again.png").write_bytes(picture(1))
    (folder / "again.txt").write_text("one more time")
    (folder / "wide.jpg").write_bytes(encoded(size=(1200, 700), form="JPEG"))
    (folder / "wide.txt").write_text("a wide view of nothing in particular")
    (folder / "torn.png").write_bytes(picture(2)[:60])
    (folder / "torn.txt").write_text("torn")
    (folder / "silent.png").write_bytes(picture(8))
    return folder


def test_checking(data, folder):
    code, out, err = data("check", folder, "--size", "512")
    assert (code, err) == (0, "")
    for line in (
        "6 pictures can be used, 2 cannot",
        f"  {folder}/torn.png: it is damaged",
        f"  {folder}/silent.png: it has no caption",
        "6 different captions of 2 to 7 words, half have 2 or fewer",
        "sizes 576x448: 3, 640x384: 3",
        "5 pictures are smaller than that and would be enlarged",
        "1 pictures are there more than once",
        f"  {folder}/1.png = {folder}/again.png",
    ):
        assert line in out


def test_checking_for_a_program(data, folder):
    code, out, _ = data("check", folder, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["kept"], len(facts["dropped"]), sum(facts["buckets"].values())) == (6, 2, 6)
    assert facts["duplicates"] == [[f"{folder}/1.png", f"{folder}/again.png"]]
    assert facts["words"] == {"fewest": 2, "median": 2, "most": 7}


def test_checking_without_captions(data, folder):
    code, out, _ = data("check", folder, "--no-captions")
    assert code == 0
    assert "7 pictures can be used, 1 cannot" in out


def test_long_lists_end(data, tmp_path):
    folder = write_folder(tmp_path, 30)
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    (folder / "good.png").write_bytes(picture(0))
    (folder / "good.txt").write_text("good")
    assert "  ... and 10 more (--verbose lists them)" in data("check", folder).stdout
    assert "more (--verbose" not in data("check", folder, "--verbose").stdout


def test_nothing_usable(data, tmp_path):
    folder = write_folder(tmp_path / "bad", 2)
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    code, out, err = data("check", folder)
    assert code == 2
    assert f"  {folder}/1.png: it is empty" in out
    assert "none of these pictures can be used" in err
    code, out, err = data("check", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "there is no such folder or file" in err


def test_building(data, monkeypatch, tmp_path):
    monkeypatch.setattr(openmoji.build, "__defaults__", (write_package(tmp_path / "out"),))
    code, out, _ = data("build", "openmoji", "--out", tmp_path / "out")
    assert (code, out) == (0, f"{tmp_path}/out/openmoji.parquet\n")
    code, out, _ = data("check", tmp_path / "out", "--size", "128")
    assert code == 0
    assert "4 pictures can be used, 0 cannot" in out


def test_building_illustrations(data, monkeypatch, tmp_path):
    wanted = stand_in(tmp_path)
    monkeypatch.setattr(illustrations, "Wanted", partial(replace, wanted))
    code, out, _ = data("build", "illustrations", "--out", tmp_path, "--size", "64", "--style", "fxemoji")
    assert (code, out) == (0, f"{tmp_path}/illustrations-64-fxemoji.parquet\n")
    code, out, _ = data("check", tmp_path / "illustrations-64-fxemoji.parquet", "--size", "64")
    assert (code, "4 pictures can be used, 0 cannot" in out) == (0, True)


def test_building_a_style_that_is_none(data, tmp_path):
    code, out, err = data("build", "illustrations", "--out", tmp_path, "--style", "cubism")
    assert (code, out) == (2, "")
    assert "'cubism' is no style of the illustrations; there are noto, noto_v1" in err
    code, _, err = data("build", "openmoji", "--out", tmp_path, "--size", "64")
    assert code == 2
    assert "--size, --style and --workers are for illustrations" in err


def test_building_what_is_unknown(data):
    code, _, err = data("build", "photos")
    assert code
    assert "openmoji" in err
