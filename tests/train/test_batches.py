"""Pictures as batches: computed once or anew, whole or in pieces, they are the same; bad ones are left out by name."""

import logging
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image

from daguerre.data.cache import Cache
from daguerre.data.config import Captions, Data, Source
from daguerre.data.manifest import gather
from daguerre.train.batches import PictureBatches, Sight, held_out
from tests.toy import toy
from tests.train import toys

CALM = Captions(dropout=0.0)


@pytest.fixture(scope="module")
def model():
    return toy("sd1")


@pytest.fixture
def folder(tmp_path):
    return toys.picture_folder(tmp_path / "pictures", count=5)


@pytest.fixture
def make(folder, tmp_path, model):
    """Batches of three of five pictures; `cached` keeps what is computed."""

    def make(*, cached=False, of=model, learning_text=False, batch=3, source=None, **settings):
        data = Data(**{"sources": (source or Source(path=folder),), "size": 64, "captions": CALM, **settings})
        sight = Sight(data=data, batch=batch, seed=0, learning_text=learning_text)
        return PictureBatches(of, gather(data).entries, sight, Cache(tmp_path / "cache", "") if cached else None)

    return make


def equal(a, b):
    torch.testing.assert_close(a.x0, b.x0, rtol=0, atol=1e-6)
    torch.testing.assert_close(a.cond.tokens, b.cond.tokens, rtol=0, atol=1e-6)
    assert list(a.captions) == list(b.captions)


@pytest.mark.parametrize("settings", [{}, {"flip": True}, {"crop": "random", "flip": True, "color": 0.3}])
def test_what_is_cached_is_what_is_computed(make, settings):
    plain, cached = make(**settings), make(cached=True, **settings)
    for _ in cached.prepare():
        pass
    for step in range(4):
        equal(cached(step, range(3)), plain(step, range(3)))


def test_what_does_not_vary_is_computed_once(make, model, monkeypatch):
    cached, calls = make(cached=True, flip=True), []
    inner = type(model.vae).encode
    monkeypatch.setattr(type(model.vae), "encode", lambda self, x: calls.append(len(x)) or inner(self, x))
    progress = list(cached.prepare())
    assert progress == [(n, 5) for n in range(6)]
    assert len(calls) == 10  # each picture, and each mirrored
    for step in range(5):
        cached(step, range(3))
    assert len(calls) == 10
    again = make(cached=True, flip=True)
    list(again.prepare())
    assert len(calls) == 10
    varied = make(cached=True, crop="random")
    list(varied.prepare())
    assert len(calls) == 10
    varied(0, range(3))
    assert len(calls) == 13


def test_text_that_learns_is_never_cached(make):
    model = toy("sd1")
    model.text[0].requires_grad_(True)
    batches = make(cached=True, of=model, learning_text=True)
    before = batches(0, range(3)).cond.tokens
    assert before.requires_grad
    with torch.no_grad():
        model.text[0].position.weight.add_(0.5)
    assert not torch.allclose(batches(0, range(3)).cond.tokens, before)


@pytest.mark.parametrize("settings", [{}, {"crop": "random", "flip": True, "color": 0.3, "captions": Captions()}])
def test_pieces_of_a_batch_are_the_batch(make, settings):
    batches = make(**settings)
    for step in range(3):
        whole = batches(step, range(3))
        first, rest = batches(step, range(1)), batches(step, range(1, 3))
        assert list(whole.captions) == [*first.captions, *rest.captions]
        torch.testing.assert_close(torch.cat([first.x0, rest.x0]), whole.x0, rtol=0, atol=1e-6)
        torch.testing.assert_close(torch.cat([first.cond.tokens, rest.cond.tokens]), whole.cond.tokens)


def test_an_epoch_has_every_picture_and_its_caption(make):
    batches = make(batch=5)
    for epoch in range(2):
        found = batches(epoch, range(5))
        assert sorted(found.captions) == sorted(f"a {color} ball, round, toy" for color in toys.COLORS[:5])
        for entry, x0 in zip(batches.chosen(epoch, range(5)), found.x0, strict=True):
            torch.testing.assert_close(x0, batches._made(entry, False, None).latents, rtol=0, atol=1e-6)


def test_half_of_the_pictures_are_mirrored(make, folder):
    for path in folder.glob("*.png"):
        Image.linear_gradient("L").rotate(90).convert("RGB").resize((64, 64)).save(path)  # dark on one side
    batches = make(flip=True, batch=20)
    sides = [
        (p[..., :32].mean() > p[..., 32:].mean()).item()
        for step in range(10)
        for p in batches.shown(step, range(20))[1]
    ]
    assert 0.4 < sum(sides) / 200 < 0.6


def test_crops_are_random_and_told(model, tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    Image.linear_gradient("L").rotate(90).convert("RGB").resize((256, 64)).save(folder / "a.png")
    (folder / "a.txt").write_text("a")
    data = Data(sources=(Source(path=folder),), size=64, crop="random", captions=CALM)
    batches = PictureBatches(toy("sdxl"), gather(data).entries, Sight(data=data, batch=2, seed=0), None)
    views = [batches._seen(batches.chosen(step, range(2)), k, step, k)[1] for step in range(10) for k in range(2)]
    corners = {view.framing.corner for view in views}
    assert len(corners) > 10
    assert {y for _, y in corners} == {0}
    assert {view.framing.original for view in views} == {(256, 64)}
    assert not torch.equal(*batches(0, range(2)).cond.vector)


def test_captions_are_dropped_and_mixed(make):
    dropped = make(captions=Captions(dropout=0.3, shuffle=True))
    captions = [caption for step in range(40) for caption in dropped(step, range(3)).captions]
    assert 0.2 < captions.count("") / 120 < 0.4
    assert {", ".join(sorted(c.split(", "))) for c in captions if c} == {
        f"a {color} ball, round, toy" for color in toys.COLORS[:5]
    }
    assert len(set(captions)) > 12


def test_an_empty_caption_of_sdxl_is_zeros(make):
    batches = make(of=toy("sdxl"), captions=Captions(dropout=0.5), batch=5)
    found = batches(0, range(5))
    empty = torch.tensor([not caption for caption in found.captions])
    assert 0 < empty.sum() < 5
    assert found.cond.tokens[empty].eq(0).all()
    assert found.cond.vector[empty][:, :32].eq(0).all()
    assert found.cond.vector[empty][:, 32:].abs().sum() > 0  # sizes are told all the same
    assert found.cond.tokens[~empty].ne(0).any()
    none = batches.empty(2)
    assert none.tokens.eq(0).all()
    assert none.tokens.shape == (2, 77, 64)


def test_a_picture_that_turns_bad_while_training_is_named_and_replaced(make, folder, caplog):
    batches = make(crop="random")
    entries = batches.chosen(0, range(3))
    before = batches(0, range(3))
    (folder / f"{entries[1].caption.split()[1]}.png").write_bytes(b"not a picture any more")
    with caplog.at_level(logging.WARNING):
        after = batches(0, range(3))
        batches(0, range(3))
    torch.testing.assert_close(after.x0[[0, 2]], before.x0[[0, 2]], rtol=0, atol=1e-6)
    assert caplog.text.count(f"{entries[1].name} is left out") == 1
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no picture of the batch can be read any more"):
        batches(0, range(3))


def test_a_picture_that_takes_the_place_of_a_bad_one_brings_its_caption(make, folder):
    batches = make(crop="random")
    entries = batches.chosen(0, range(3))
    (folder / f"{entries[1].caption.split()[1]}.png").write_bytes(b"")
    found = batches(0, range(3))
    assert list(found.captions) == [entries[0].caption, entries[2].caption, entries[2].caption]


def test_a_picture_whose_latents_are_not_finite_is_named_and_left_out(make, model, caplog, monkeypatch):
    batches = make(cached=True)
    bad = batches.entries[2]
    inner = PictureBatches._made

    def made(self, entry, flip, rng):
        view = inner(self, entry, flip, rng)
        return view._replace(latents=view.latents * torch.nan) if entry.sha256 == bad.sha256 else view

    monkeypatch.setattr(PictureBatches, "_made", made)
    with caplog.at_level(logging.WARNING):
        list(batches.prepare())
    assert f"{bad.name} is left out: its latents are not finite" in caplog.text
    assert len(batches.entries) == 4
    assert all(batches(step, range(3)).x0.isfinite().all() for step in range(5))


def test_nothing_left_is_told(make, monkeypatch):
    batches = make()
    monkeypatch.setattr(PictureBatches, "_made", lambda *of: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(ValueError, match="no picture is left to train on"):
        list(batches.prepare())


@contextmanager
def shapes(folder):
    for name, size in {"wide": (256, 128), "tall": (128, 256), "square": (128, 128)}.items():
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    yield Data(sources=(Source(path=folder),), size=128, buckets=True, bucket_step=32, captions=CALM)


def test_a_batch_has_pictures_of_one_shape(model, tmp_path):
    (tmp_path / "shapes").mkdir()
    with shapes(tmp_path / "shapes") as data:
        batches = PictureBatches(model, gather(data).entries, Sight(data=data, batch=2, seed=0), None)
        seen = {}
        for step in range(6):
            batch = batches(step, range(2))
            (name,) = set(batch.captions)
            seen[name] = tuple(batch.x0.shape[-2:])
    assert seen.keys() == {"wide", "tall", "square"}
    assert seen["square"] == (16, 16)
    assert seen["wide"] == seen["tall"][::-1]
    assert seen["wide"][0] < seen["wide"][1]


def test_held_out_pictures_of_every_shape_are_seen_as_they_are(model, tmp_path):
    (tmp_path / "shapes").mkdir()
    with shapes(tmp_path / "shapes") as data:
        wild = replace(data, crop="random", flip=True, color=0.5, captions=Captions(shuffle=True, dropout=0.9))
        sight = Sight(data=wild, batch=2, seed=0)
        each = held_out(model, gather(data).entries, sight, None)
    found = [batches(0, range(batches.sight.batch)) for batches in each]
    assert sorted(caption for batch in found for caption in batch.captions) == ["square", "tall", "wide"]
    for batches, batch in zip(each, found, strict=True):
        equal(batches(0, range(1)), batch)


def test_masks_and_weights_come_along(make, folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    mask.save(masks / "red.png")
    batches = make(batch=5, cached=True, source=Source(path=folder, masks=masks, weight=0.5))
    for _ in range(2):  # computed, and cached
        found = batches(0, range(5))
        assert found.weight.tolist() == [0.5] * 5
        for caption, seen in zip(found.captions, found.mask, strict=True):
            expected = torch.ones(1, 8, 8)
            if "red" in caption:
                expected[..., 4:] = 0
            assert torch.equal(seen, expected)
    assert make()(0, range(3)).mask is None
