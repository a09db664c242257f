"""Eyes for a toy model, from a table of pictures to a prompt."""

import math
from dataclasses import replace

import pytest
import torch

from daguerre.data.decode import decode
from daguerre.files.built_in import built_in
from daguerre.files.reader import open_checkpoint
from daguerre.generate.clip import load_towers, text_alone
from daguerre.generate.interrogate import interrogate, ranker
from daguerre.models.vision import ConvVisionConfig
from daguerre.train import vision_tower
from daguerre.train.config import Loop, Optimizer
from tests.toy import toy, write_toy
from tests.train import toys

NETWORK = ConvVisionConfig(size=32, widths=(8, 16), blocks=(1, 1))
THINGS = {"red": "apple", "green": "tree", "blue": "car"}
MORE = {"group": "food-drink", "mono": False, "coverage": 0.5}


@pytest.fixture
def plan(tmp_path):
    """Balls of three colors, each with a name of its own."""
    rows = [toys.row(c, s) | MORE | {"label": THINGS[c]} for c in THINGS for s in toys.STYLES]
    rows += [rows[0] | {"split": "val"}, rows[3] | {"split": "val"}]
    toys.write_parquet(tmp_path / "balls.parquet", rows)
    write_toy(toy(), tmp_path / "toy.safetensors")
    return vision_tower.Seeing(
        recipe="vision",
        pictures=tmp_path / "balls.parquet",
        run=tmp_path / "run",
        held=("val",),
        painted=12,
        device="cpu",
        network=NETWORK,
        loop=Loop(steps=3, batch=6, validate_every=3, save_every=3, sample_every=3, log_every=1),
        optimizer=Optimizer(learning_rate=3e-3),
    )


def trained(plan, base=None):
    records = list(vision_tower.train(plan, base or plan.pictures.parent / "toy.safetensors", math.inf))
    return records[:-1], records[-1]["files"][0]


def test_from_pictures_to_a_prompt(plan):
    pace = {"loop": replace(plan.loop, steps=40, ema=0.5), "optimizer": Optimizer(learning_rate=1e-2)}
    plan = replace(plan, painted=0, **pace)
    records, path = trained(plan, built_in("tintype"))  # a text encoder to which words mean something
    names = [record["name"] for record in records]
    assert sum(names[-5:]) < 0.6 * sum(names[:5])
    told = [record["val"] for record in records if "val" in record][-1]
    assert told.keys() == {"val top 1", "val top 5", "val style"}
    assert told["val top 5"] == 1.0  # there are fewer than five names
    clip, lists = load_towers(built_in("tintype"), path, device="cpu")
    assert lists["subject"] == ["an apple", "a car", "a tree"]
    assert lists["style"] == sorted(toys.STYLES)
    eyes = ranker(clip, lists)
    named = {c: interrogate(eyes, decode(toys.png(toys.ball(c)), "white")).prompt for c in THINGS}
    assert all(THINGS[color] in prompt for color, prompt in named.items()), named


def test_a_tower_may_begin_with_another(plan):
    _, path = trained(plan)
    again = replace(plan, run=plan.run.parent / "again", start=path, loop=replace(plan.loop, steps=1))
    _, other = trained(replace(again, optimizer=Optimizer(learning_rate=1e-9)))
    first, second = open_checkpoint(path), open_checkpoint(other)
    torch.testing.assert_close(second.tensor("stem.weight"), first.tensor("stem.weight"), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="this run trains"):
        trained(replace(again, run=plan.run.parent / "third", network=replace(NETWORK, widths=(16, 16))))


def test_painted_drawings_have_the_color_that_is_said(plan):
    from daguerre.data.cutouts import load_cutouts
    from daguerre.data.pictures import load_parquet

    clip = text_alone(plan.pictures.parent / "toy.safetensors", device="cpu")
    cutouts = load_cutouts(plan.pictures, 32)
    words = vision_tower.words_of(clip, [load_parquet(plan.pictures, "train", 32)], [c.noun for c in cutouts])
    seen = vision_tower.painted(cutouts, words, replace(plan, painted=40))
    assert {words.names[i] for i in seen.names.tolist()} == set(THINGS.values())
    colors = {words.colors[i] for i in seen.colors.tolist()}
    assert len(colors) > 3
    reds = [p[:, 16, 16].tolist() for p, c in zip(seen.pixels, seen.colors.tolist(), strict=True)
            if words.colors[c] == "red"]  # fmt: skip
    assert reds
    assert all(r > 2 * g and r > 2 * b for r, g, b in reds)


def test_variations_are_a_function_of_their_generator():
    pixels = torch.rand(4, 3, 32, 32) * 2 - 1
    one, same, other = (vision_tower.varied(pixels, torch.Generator().manual_seed(n)) for n in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    white = vision_tower.varied(torch.ones(1, 3, 8, 8), torch.Generator().manual_seed(0))
    assert white.mean() == pytest.approx(1, abs=0.05)  # a white ground stays white


def test_names_that_tell_a_color(plan):
    from daguerre.data.pictures import load_parquet

    rows = [toys.row("red", toys.STYLES[0]) | {"label": name} for name in ("ball", "red ball", "orange", "red hat")]
    pictures = load_parquet(toys.write_parquet(plan.pictures, rows), "train", 32)
    words = vision_tower.words_of(text_alone(built_in("tintype"), device="cpu"), [pictures], [])
    seen = vision_tower.seen_of(pictures, words)
    told = [words.colors[c] if c >= 0 else "" for c in seen.colors.tolist()]
    assert told == ["", "red", "", ""]  # nothing is called a hat alone, and an orange is no color of anything
    assert words.names[seen.nouns[1]] == "ball"
