"""What inpainting and editing networks see beside the noise."""

import pytest
import torch

from daguerre.data.config import Captions, Data, Source
from daguerre.data.manifest import gather
from daguerre.train.batches import PictureBatches, Sight
from daguerre.train.canvas import EditBatches, InpaintBatches, random_mask
from daguerre.train.config import Edit, Inpaint
from daguerre.train.randomness import generator
from tests.toy import toy
from tests.train import toys


def masks(c, count=300):
    return torch.stack([random_mask((32, 48), c, generator(0, "mask", i)) for i in range(count)])


def test_masks_are_ones_and_zeros_and_cover_what_they_should():
    found = masks(Inpaint(whole=0.25, smallest=0.05, largest=0.8))
    assert found.shape == (300, 1, 32, 48)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    share = found.mean(dim=(1, 2, 3))
    assert 0.18 < (share == 1).float().mean() < 0.32
    partly = share[share < 1]
    assert partly.min() >= 0.05
    assert partly.quantile(0.1) < 0.25
    assert partly.quantile(0.9) > 0.65
    assert len({tuple(mask.flatten().tolist()) for mask in found[share < 1]}) == len(partly)


@pytest.mark.parametrize(("whole", "all_whole"), [(1.0, True), (0.0, False)])
def test_the_share_of_whole_masks_is_what_it_says(whole, all_whole):
    found = masks(Inpaint(whole=whole, largest=0.3), 50)
    assert found.eq(1).flatten(1).all(dim=1).all().item() is all_whole


def test_masks_are_boxes_and_strokes():
    """In a box every row is alike; in a stroke they are not."""
    found = masks(Inpaint(whole=0.0, smallest=0.02, largest=0.03), 100)[:, 0]
    alike = [len({tuple(row.tolist()) for row in mask if row.any()}) == 1 for mask in found]
    assert 0.05 < sum(alike) / 100 < 0.95


@pytest.fixture
def pictures(tmp_path):
    folder = toys.picture_folder(tmp_path / "pictures")
    data = Data(sources=(Source(path=folder),), size=64, crop="random", flip=True, captions=Captions(dropout=0.0))
    return PictureBatches(toy("sd1-inpaint"), gather(data).entries, Sight(data=data, batch=3, seed=0), None)


def test_inpainting_sees_the_mask_and_what_is_outside(pictures):
    c = Inpaint(whole=0.0)
    batches = InpaintBatches(pictures.model, pictures, c)
    plain, batch = pictures(2, range(3)), batches(2, range(3))
    assert torch.equal(batch.x0, plain.x0)
    assert torch.equal(batch.cond.tokens, plain.cond.tokens)
    assert batch.cond.concat.shape == (3, 5, 8, 8)
    for i, pixels in enumerate(pictures.shown(2, range(3))[1]):
        mask = random_mask((64, 64), c, generator(0, "mask", 2, i))
        assert torch.equal(batch.cond.concat[i, 0], mask[0, ::8, ::8])
        kept = pictures.model.vae.encode((pixels * (1 - mask))[None])[0]
        torch.testing.assert_close(batch.cond.concat[i, 1:], kept, rtol=0, atol=1e-5)


def test_inpainting_in_pieces_is_the_whole(pictures):
    batches = InpaintBatches(pictures.model, pictures, Inpaint())
    whole = batches(1, range(3)).cond.concat
    torch.testing.assert_close(batches(1, range(1, 3)).cond.concat, whole[1:], rtol=0, atol=1e-5)
    assert not torch.equal(batches(2, range(3)).cond.concat, whole)


@pytest.fixture
def pairs(tmp_path):
    data = Data(sources=(Source(path=toys.edits(tmp_path / "edits.parquet")),), size=64, flip=True)
    data = Data(**{**vars(data), "captions": Captions(dropout=0.0)})
    entries = gather(data, others=("before",)).entries
    return PictureBatches(toy("sd1-edit"), entries, Sight(data=data, batch=4, seed=0), None)


def test_editing_sees_the_picture_before_framed_as_the_one_after(pairs):
    batches = EditBatches(pairs.model, pairs, Edit(picture_dropout=0.0, both_dropout=0.0))
    plain, batch = pairs(0, range(4)), batches(0, range(4))
    assert torch.equal(batch.x0, plain.x0)
    assert torch.equal(batch.cond.tokens, plain.cond.tokens)
    before = pairs.shown(0, range(4), "before")[1]
    vae = pairs.model.vae
    torch.testing.assert_close(batch.cond.concat, vae.encode(before) / vae.config.scale, rtol=0, atol=1e-5)
    assert not torch.equal(before, pairs.shown(0, range(4))[1])
    assert before.min() < -0.9  # the black ball


def test_editing_drops_the_picture_or_both_as_often_as_told(pairs, monkeypatch):
    batches = EditBatches(pairs.model, pairs, Edit(picture_dropout=0.2, both_dropout=0.1))
    monkeypatch.setattr(type(pairs.model.vae), "encode", lambda self, x: torch.ones(len(x), 4, 8, 8))
    empty = pairs.empty(1).tokens[0]
    picture, text = [], []
    for step in range(60):
        cond = batches(step, range(4)).cond
        picture += cond.concat.eq(0).flatten(1).all(dim=1).tolist()
        text += [torch.equal(tokens, empty) for tokens in cond.tokens]
    assert 0.22 < sum(picture) / 240 < 0.38
    assert 0.05 < sum(text) / 240 < 0.16
    assert not [t for p, t in zip(picture, text, strict=True) if t and not p]


def test_a_pair_whose_picture_before_turns_bad_is_left_out(pairs, caplog, monkeypatch):
    batches = EditBatches(pairs.model, pairs, Edit(picture_dropout=0.0, both_dropout=0.0))
    bad = pairs.chosen(0, range(4))[1]
    inner = type(bad).read_other
    monkeypatch.setattr(
        type(bad), "read_other", lambda self, column: b"" if self.sha256 == bad.sha256 else inner(self, column)
    )
    batch = batches(0, range(4))
    assert f"{bad.name} is left out" in caplog.text
    assert bad.caption not in batch.captions
    assert batch.cond.concat.shape == (4, 4, 8, 8)
