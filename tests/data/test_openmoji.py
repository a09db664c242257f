import sys
from dataclasses import replace

import pyarrow.parquet
import pytest

from daguerre.data import openmoji
from daguerre.data.config import Data, Source
from daguerre.data.decode import decode
from daguerre.data.manifest import gather
from daguerre.data.openmoji import build
from daguerre.data.phrases import phrases, with_article
from tests.data.stand_in_openmoji import write_package


def rows_of(folder):
    return pyarrow.parquet.read_table(folder / "openmoji.parquet").to_pylist()


def test_the_table(tmp_path):
    package = write_package(tmp_path)
    steps = list(build(tmp_path, package))
    assert steps == [(i, 5) for i in range(6)]
    rows = rows_of(tmp_path)
    assert [row["caption"] for row in rows] == [
        "a red apple, outlined", "a fox, outlined", "paw prints, outlined", "an artist, outlined"
    ]  # fmt: skip
    assert rows[0].keys() >= {
        "image", "caption", "label", "tags", "style_words", "group", "subgroup", "licence", "source", "split", "author"
    }  # fmt: skip
    assert {row["licence"] for row in rows} == {"CC-BY-SA-4.0"}
    assert {row["source"] for row in rows} == {"openmoji@0.0.1"}
    assert rows[0]["tags"] == ["round", "thing"]
    assert rows[3]["tags"] == ["round", "thing", "man artist"]
    assert phrases(rows[0])[-1] == "a red apple, round, thing, outlined"


def test_the_pictures(tmp_path):
    list(build(tmp_path, write_package(tmp_path)))
    image = decode(rows_of(tmp_path)[0]["image"]["bytes"], "blue")
    assert image.size == (128, 128)
    assert image.getpixel((64, 64)) == (255, 0, 0)
    assert image.getpixel((4, 4)) == (0, 0, 255)
    edge = [image.getpixel((x, 64)) for x in range(128)]
    assert all(r + b in range(250, 262) and g < 8 for r, g, b in edge)  # no dark rim where both meet


def test_a_run_can_be_trained_on_it(tmp_path):
    list(build(tmp_path, write_package(tmp_path)))
    manifest = gather(Data(sources=(Source(path=tmp_path / "openmoji.parquet", split="train"),)))
    assert [e.row["label"] for e in manifest.entries][:2] == ["red apple", "fox"]


def test_the_card_names_license_and_credit(tmp_path):
    package = write_package(tmp_path)
    list(build(tmp_path, package))
    card = (tmp_path / "README.md").read_text()
    for needed in ("4 pictures", "https://creativecommons.org/licenses/by-sa/4.0/", "OpenMoji", package.sha256):
        assert needed in card


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    package = write_package(tmp_path / "whole")
    list(build(tmp_path / "whole", package))
    write_package(tmp_path / "cut")
    going = build(tmp_path / "cut", package)
    for _ in range(4):
        next(going)
    going.close()
    (torn, *kept) = sorted((tmp_path / "cut").rglob("*.webp"))
    torn.write_bytes(torn.read_bytes()[:9])
    drawn = []
    draw = sys.modules["resvg_py"].svg_to_bytes
    monkeypatch.setattr("resvg_py.svg_to_bytes", lambda **options: [drawn.append(1), draw(**options)][1])
    list(build(tmp_path / "cut", package))
    assert len(kept) == 2
    assert len(drawn) == 5 - len(kept)
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob("*.webp"))
    drawn.clear()
    assert list(build(tmp_path / "cut", package)) == []
    assert drawn == []


def test_another_package_than_the_pinned_one(tmp_path):
    package = replace(write_package(tmp_path), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"openmoji-0\.0\.1\.tgz has SHA-256 .*, not the pinned 0{64}; remove it"):
        list(build(tmp_path, package))
    assert not (tmp_path / "openmoji.parquet").exists()


def client(folder, script):
    """An npm that does as it is told."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_npm_fetches_the_package(tmp_path, monkeypatch):
    package = write_package(tmp_path / "registry")
    script = f'[ "$1 $4" = "pack openmoji@0.0.1" ] && cp {tmp_path}/registry/*.tgz .'
    monkeypatch.setenv("PATH", client(tmp_path / "bin", script))
    list(build(tmp_path / "new", package))
    assert len(rows_of(tmp_path / "new")) == 4


def test_npm_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", client(tmp_path / "bin", "echo no such package >&2; exit 1"))
    with pytest.raises(OSError, match=r"npm could not fetch openmoji@17\.0\.0: no such package"):
        list(build(tmp_path / "new"))


def test_without_npm_what_to_do_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OSError, match=r"needs npm, which comes with Node\.js: install that, or put .*17\.0\.0\.tgz there"
    ):
        list(build(tmp_path))


def test_without_the_renderer_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs resvg_py: pip install 'daguerre\[data,train\]'"):
        list(build(tmp_path))


def test_the_pinned_package():
    assert openmoji.OPENMOJI.version == "17.0.0"
    assert len(openmoji.OPENMOJI.sha256) == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("apple", "an apple"), ("unicorn", "a unicorn"), ("ukulele", "a ukulele"), ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"), ("one-piece swimsuit", "a one-piece swimsuit"), ("onion", "an onion"),
        ("octopus", "an octopus"), ("dress", "a dress"), ("glasses", "glasses"),
        ("family: man, boy", "family: man, boy"),
        ("face with bags under eyes", "a face with bags under eyes"), ("people hugging", "people hugging"),
        ("3d render", "a 3d render"),
    ],
)  # fmt: skip
def test_articles(name, said):
    assert with_article(name) == said
