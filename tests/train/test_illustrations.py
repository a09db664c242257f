"""What the built-in model's U-Net is taught: which rows, in which latents, with which captions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from daguerre.data.pictures import load_parquet
from daguerre.models.clip import CLIPText
from daguerre.models.vae import VAE
from daguerre.text.tokenizer import END, START, Tokenizer
from daguerre.train import illustrations
from daguerre.train.illustrations import Illustrations, Latents, Lessons, Source, latents, tokenize
from tests.train import toys

LESSONS = Lessons(styles=toys.STYLES, scenes=0)


def test_token_ids_have_start_and_end_and_one_length():
    short, long, empty = tokenize(["a red apple", "apple " * 200, ""])
    apple = Tokenizer().encode("a red apple")
    assert short.tolist() == [START, *apple, *[END] * (76 - len(apple))]
    assert len(long) == 77
    assert long[-1] == END
    assert (long[1:-1] == apple[-1]).all()
    assert empty.tolist() == [START] + [END] * 76


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"label": "red apple"}, True),
        ({"label": "juicy ball"}, False),
        ({"style_words": "black silhouette"}, False),
        ({"subgroup": "hands"}, False),
        ({"subgroup": "time"}, False),
        ({"subgroup": None}, False),
        ({"subgroup": "sport"}, True),
    ],
)
def test_the_unet_learns_single_things_with_short_names(changes, fits):
    assert Lessons().taught({**toys.row("red", "3d render"), **changes}) is fits


def shape(name: str, color: str, style: str) -> dict[str, object]:
    """A row whose drawing covers half of the picture, in one color."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((8, 12, 56, 52), 2 * len(name), fill=color)
    pen.rectangle((20, 24, 30, 30), fill="black")
    image = {"bytes": toys.png(picture), "path": f"{name}.png"}
    known = {"label": name, "caption": f"a {name}, {style}", "coverage": 0.5, "group": "objects", "mono": False}
    return {**toys.row(color, style), "image": image, **known}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    names = ("box", "drum", "wheel", "cushion", "lantern", "clock")
    rows = [shape(n, c, s) for n, c in zip(names, toys.COLORS, strict=True) for s in toys.STYLES]
    path = toys.write_parquet(tmp_path_factory.mktemp("shapes") / "shapes.parquet", rows)
    return Source(path, "abc", 0, 64)


def made(source: Source, folder: Path, vae: VAE | None = None, **changes: object) -> Latents:
    """Latents of the shapes with some scenes."""
    torch.manual_seed(0)
    vae = vae or VAE(toys.ARCHITECTURE.vae).eval()
    lessons = replace(LESSONS, **{"scenes": 40, **changes})
    return latents(vae, load_parquet(source.path, "train", 64), lessons, source, folder / "kept.safetensors")


def test_pictures_come_straight_mirrored_and_in_scenes(source, tmp_path):
    found = made(source, tmp_path)
    straight, mirrored = 12, 10  # a clock has no mirror image
    assert (found.plain, len(found.rows), len(found.scaled)) == (straight + mirrored, 62, 62)
    assert all("scene" not in row for row in found.rows[: found.plain])
    assert len({row["scene"] for row in found.rows[found.plain :]}) > 20
    assert not torch.equal(found.scaled[0], found.scaled[straight])
    assert len(made(source, tmp_path, mirrored=False).rows) == straight + 40


def test_processes_compose_the_same_scenes(source, tmp_path):
    alone, together = made(source, tmp_path / "a"), made(source, tmp_path / "b", workers=2)
    assert torch.equal(alone.scaled, together.scaled)
    assert alone.rows == together.rows


def test_latents_are_kept_until_what_decides_them_changes(source, tmp_path, monkeypatch):
    first = made(source, tmp_path)
    vae = VAE(toys.ARCHITECTURE.vae).eval()
    with monkeypatch.context() as changed:
        changed.setattr(illustrations, "_pixels", None)  # must not be needed
        again = made(source, tmp_path, share=0.9)
    assert torch.equal(first.scaled, again.scaled)
    assert first.rows == again.rows
    for different in (
        made(source, tmp_path, scenes=39),
        made(source, tmp_path, vae),
        made(replace(source, seed=1), tmp_path),
    ):
        assert not torch.equal(first.scaled[-39:], different.scaled[-39:])


def batches(data: Latents, **changes: object) -> Illustrations:
    text = CLIPText(toys.ARCHITECTURE.text).eval()
    return Illustrations(data=data, text=text, batch=200, seed=0, dropout=0.1, lessons=replace(LESSONS, **changes))


def test_a_batch_mixes_pictures_scenes_and_no_captions(source, tmp_path):
    data = made(source, tmp_path)
    scenes = [f"scene {number}" for number in range(40)]  # words of their own
    data = replace(data, rows=[*data.rows[: data.plain], *({"scene": caption} for caption in scenes)])
    captions = batches(data, share=0.4)(0, range(200)).captions
    assert sum(caption in scenes for caption in captions) == pytest.approx(0.4 * 0.9 * 200, abs=25)
    assert captions.count("") == pytest.approx(0.1 * 200, abs=14)
    assert not set(scenes) & set(batches(data, share=0.0)(0, range(200)).captions)


def test_a_place_of_a_batch_does_not_depend_on_the_others(source, tmp_path):
    data = batches(made(source, tmp_path))
    whole, part = data(3, range(200)), data(3, range(50, 60))
    assert part.captions == whole.captions[50:60]
    assert torch.equal(part.x0, whole.x0[50:60])
    assert data(4, range(50, 60)).captions != part.captions
