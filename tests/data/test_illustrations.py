import sys
from dataclasses import replace

import pyarrow.parquet
import pytest

from daguerre.data.config import Data, Source
from daguerre.data.decode import decode
from daguerre.data.illustrations.build import Wanted, build
from daguerre.data.manifest import gather
from daguerre.data.phrases import phrases
from tests.data.stand_in_illustrations import stand_in


def rows_of(folder, kind="illustrations"):
    return pyarrow.parquet.read_table(folder / f"{kind}.parquet").to_pylist()


def row_of(folder, style, label, kind="illustrations"):
    (row,) = [row for row in rows_of(folder, kind) if (row["style"], row["label"]) == (style, label)]
    return row


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    list(build(folder, stand_in(folder, size=32)))
    for kind in ("illustrations", "tones"):
        (folder / f"{kind}-32.parquet").rename(folder / f"{kind}.parquet")
    (folder / "README-32.md").rename(folder / "README.md")
    return folder


def test_the_things_of_each_set(built):
    labels = {}
    for row in rows_of(built):
        labels.setdefault(row["style"], []).append(row["label"])
    assert labels == {
        "noto": ["angry face", "ant", "compass", "red apple", "rooster", "tulip", "waving hand", "pickle"],
        "fxemoji": ["angry face", "red apple", "tulip", "crying fox"],
        "fluent_3d": ["red apple", "rooster"],
        "openclipart": ["rooster", "black and white apple", "pliers"],
    }


def test_a_row(built):
    row = row_of(built, "noto", "red apple")
    assert row.pop("image")["path"] == "noto/1F34E.webp"
    assert row == {
        "caption": "a red apple, soft gradient cartoon", "label": "red apple", "tags": ["fruit"], "style": "noto",
        "style_words": "soft gradient cartoon", "family": "noto", "group": "food-drink", "subgroup": "some",
        "concept": "1F34E", "mono": False, "coverage": row["coverage"], "author": "Google LLC",
        "licence": "Apache-2.0", "source": "@iconify-json/noto@0.0.1", "split": "train",
    }  # fmt: skip
    assert row["coverage"] == pytest.approx(3.1416 * 12**2 / 36**2, abs=0.02)
    assert phrases(row)[-1] == "a red apple, fruit, soft gradient cartoon"


def test_two_names_of_one_drawing_are_one_row(built):
    assert row_of(built, "noto", "compass")["tags"] == ["optical disk"]
    assert row_of(built, "openclipart", "black and white apple")["tags"] == ["fruit", "food", "pear"]


def test_clip_art_is_named_credited_and_trimmed(built):
    pliers = row_of(built, "openclipart", "pliers")
    assert pliers["author"] == "Ada Lovelace"
    assert (pliers["group"], pliers["concept"], pliers["licence"]) == ("tools", None, "PD")
    image = decode(pliers["image"]["bytes"], "blue")
    red = [(x, y) for x in range(32) for y in range(32) if image.getpixel((x, y))[0] > 128]
    assert min(x for x, _ in red) in (1, 2)  # a margin of 1/32; edges fall between pixels
    assert max(x for x, _ in red) in (29, 30)
    assert max(y for _, y in red) - min(y for _, y in red) + 1 in (14, 15)


def test_a_picture_is_centered_and_transparent_around(built):
    image = decode(row_of(built, "noto", "red apple")["image"]["bytes"], "blue")
    assert image.size == (32, 32)
    assert image.getpixel((16, 16))[0] > 248
    assert image.getpixel((1, 1))[2] > 248


def test_what_is_held_out(built):
    splits = {(row["style"], row["label"]): row["split"] for row in rows_of(built)}
    assert {key: split for key, split in splits.items() if split != "train"} == {
        ("noto", "rooster"): "concept_holdout", ("fluent_3d", "rooster"): "concept_holdout",
        ("openclipart", "rooster"): "concept_holdout",  # as its author says it: gallo
        ("noto", "compass"): "concept_holdout",  # it is the optical disk as well, which is held out
        ("noto", "tulip"): "pair_holdout",  # in this family, not in fxemoji
        ("noto", "ant"): "val",
    }  # fmt: skip


def test_people_have_five_tones(built):
    rows = rows_of(built, "tones")
    assert [row["label"] for row in rows] == [
        f"waving hand, {tone} skin tone" for tone in ("light", "medium-light", "medium", "medium-dark", "dark")
    ]
    assert rows[4]["caption"] == "a waving hand, dark skin tone, soft gradient cartoon"
    assert {row["concept"] for row in rows} == {"1F44B"}
    assert len({row["image"]["path"] for row in rows}) == 5


def test_names_in_all_languages(built):
    rows = rows_of(built, "names")
    assert {"concept": "1F34E", "locale": "it", "label": "mela rossa", "tags": []} in rows
    assert {"concept": "2B06", "locale": "en", "label": "up arrow", "tags": ["north"]} in rows
    assert len(rows) == 18


def test_the_card(built):
    card = (built / "README.md").read_text()
    for needed in (
        "`illustrations-32.parquet`: 17 pictures", "32 x 32", "| noto | Apache-2.0 | 4 | 1 | 1 | 2 | 8 |",
        "Google LLC", "https://creativecommons.org/publicdomain/mark/1.0/", "openclipart-svg=1:0.1, SHA-256 ",
    ):  # fmt: skip
        assert needed in card, card


def test_a_run_can_be_trained_on_it(built):
    manifest = gather(Data(sources=(Source(path=built / "illustrations.parquet", split="train"),)))
    assert len(manifest.entries) == 11


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    going = build(cut, stand_in(cut, size=64))
    for _ in range(6):
        _, total = next(going)
    going.close()
    torn, *kept = sorted((cut / "drawn-64.partial").glob("*.webp"))
    torn.write_bytes(torn.read_bytes()[:-9])  # as a killed process leaves it
    drawn = []
    draw = sys.modules["resvg_py"].svg_to_bytes
    monkeypatch.setattr("resvg_py.svg_to_bytes", lambda **options: [drawn.append(1), draw(**options)][1])
    list(build(cut, stand_in(cut, size=64)))
    again = len(drawn)
    drawn.clear()
    list(build(whole, stand_in(whole, size=64)))
    assert len(kept) == 4  # of six, two of which are alike
    assert len(drawn) - again == 4
    assert total == 20
    for kind in ("illustrations-64", "tones-64"):
        assert rows_of(cut, kind) == rows_of(whole, kind)
    assert not list(cut.glob("*.partial"))
    drawn.clear()
    assert list(build(cut, stand_in(cut, size=64))) == []
    assert drawn == []


def test_several_processes_draw_the_same(tmp_path, built):
    wanted = stand_in(tmp_path, size=32, workers=2, keys=("fxemoji",))
    list(build(tmp_path, wanted))
    assert wanted.tables() == ("illustrations-32-fxemoji.parquet",)
    whole = [row for row in rows_of(built) if row["style"] == "fxemoji"]
    assert rows_of(tmp_path, "illustrations-32-fxemoji") == whole


def test_pixels_are_not_enlarged(tmp_path):
    wanted = stand_in(tmp_path, size=512)
    assert "fluent_3d" not in [style.key for style in wanted.chosen()]
    with pytest.raises(ValueError, match="fluent_3d has fewer pixels than 512; leave it out"):
        Wanted(size=512, keys=("fluent_3d",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": ("apple",)}, "'apple' is no style of the illustrations; there are noto, noto_v1, twemoji"),
        ({"size": 3}, "size is 3; illustrations have 16 to 2048"), ({"workers": 0}, "workers is 0"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Wanted(**options)


def test_another_package_than_the_pinned_one(tmp_path):
    wanted = stand_in(tmp_path, size=32)
    noto = wanted.styles[0]
    bad = replace(wanted, styles=(replace(noto, package=replace(noto.package, sha256="0" * 64)), *wanted.styles[1:]))
    with pytest.raises(ValueError, match=r"iconify-json-noto-0\.0\.1\.tgz has SHA-256 .*, not the pinned 0{64}"):
        list(build(tmp_path, bad))
    assert not (tmp_path / "illustrations-32.parquet").exists()


def test_without_npm_what_to_do_is_said(tmp_path, monkeypatch):
    wanted = stand_in(tmp_path)
    (tmp_path / wanted.styles[0].package.file).unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"fetching @iconify-json/noto@0\.0\.1 needs npm, which comes with Node\.js"):
        list(build(tmp_path, wanted))


def test_without_apt_get_there_is_no_clip_art(tmp_path, monkeypatch, caplog):
    wanted = stand_in(tmp_path, size=32)
    (tmp_path / wanted.styles[-1].package.file).unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    list(build(tmp_path, wanted))
    assert "openclipart-svg=1:0.1 needs apt-get" in caplog.text
    assert f"or put {tmp_path}/openclipart-svg_1%3a0.1_all.deb there" in caplog.text
    assert {row["style"] for row in rows_of(tmp_path, "illustrations-32")} == {"noto", "fxemoji", "fluent_3d"}
    assert "Missing in this build" in (tmp_path / "README-32.md").read_text()


def test_a_package_of_another_kind(tmp_path):
    wanted = stand_in(tmp_path, size=32)
    noto = wanted.styles[0]
    named = replace(wanted, styles=(replace(noto, package=wanted.names), *wanted.styles[1:]))
    with pytest.raises(ValueError, match=r"emojibase-data-0\.0\.1\.tgz holds neither package/icons\.json nor"):
        list(build(tmp_path, named))
