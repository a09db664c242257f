import math

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from daguerre.data.phrases import phrases
from daguerre.data.pictures import Pictures
from daguerre.train import contrastive
from tests.train import toys
from tests.train.line import finish, quick


def test_one_batch_is_learned(tmp_path, pictures):
    recipe = toys.OneBatch(toys.contrastive(pictures))
    records = finish(recipe, quick(save_every=1000, steps=60), tmp_path)
    assert records[-1]["loss"] < 0.3 * records[0]["loss"]
    assert records[-1]["accuracy"] == 1


def test_similarities_are_cosines_times_the_scale(pictures):
    towers = toys.contrastive(pictures).trained
    batch, ids = pictures.batch(torch.arange(3)), toys.tokenize(["a red ball", "a green ball", "a blue ball"])
    seen = towers.vision(F.adaptive_avg_pool2d(batch, 16))
    said = towers.text(ids).pooled  # all tokens: those after the end must not matter
    expected = torch.stack([F.cosine_similarity(picture, said) for picture in seen]) / 0.07
    torch.testing.assert_close(towers(batch, ids), expected, rtol=1e-4, atol=1e-4)


def test_the_scale_ends_at_100(pictures):
    towers = toys.contrastive(pictures).trained
    torch.nn.init.constant_(towers.log_scale, 50)
    logits = towers(pictures.batch(torch.arange(2)), toys.tokenize(["a red ball", "a green ball"]))
    assert 50 < logits.abs().max() <= 100.001


class Fixed(torch.nn.Module):
    """Towers whose answer is known."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.log_scale = logits, torch.zeros(())

    def forward(self, pictures, ids):
        return self.logits


@pytest.fixture
def twins(monkeypatch):
    """Two pictures of one caption and one of another, in a batch in this order."""
    monkeypatch.setattr(contrastive, "pick", lambda row, rng: " ".join(row["words"]))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([0, 1, 2]))
    rows = [{"words": ("a", color, "ball")} for color in ("red", "red", "blue")]
    return Pictures(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), rows)


def loss(twins, logits):
    return contrastive.ContrastiveRecipe(Fixed(torch.tensor(logits)), twins, 3, 0, toys.tokenize).loss(0, range(3))


def test_equal_captions_count_as_right(twins):
    far = -1e4
    value, figures = loss(twins, [[0.0, 0.0, far], [0.0, 0.0, far], [far, far, 0.0]])
    assert value.item() == pytest.approx(
        (math.log(2) + math.log(2) + 0) / 3
    )  # the entropy of the targets: no less is possible
    assert figures["accuracy"] == 1
    swapped, figures = loss(twins, [[far, 0.0, far], [0.0, far, far], [far, far, 0.0]])
    assert figures["accuracy"] == 1
    assert swapped > value


def test_a_batch_of_all_different_captions_is_plain_cross_entropy(twins):
    twins.rows[1]["words"] = ("a", "green", "ball")
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.2, 0.1], [0.0, 2.0, 1.0]])
    value, figures = loss(twins, logits.tolist())
    expected = -(logits.log_softmax(1).diag().mean() + logits.log_softmax(0).diag().mean()) / 2
    assert value.item() == pytest.approx(expected.item())
    assert figures["accuracy"] == pytest.approx(1 / 3)


def test_captions_belong_to_their_pictures(pictures, monkeypatch):
    recipe = toys.contrastive(pictures)
    seen = []
    monkeypatch.setattr(
        recipe.trained, "forward", lambda batch, ids: seen.append(batch) or torch.eye(4, requires_grad=True)
    )
    recipe.tokenize = lambda captions: seen.append(captions) or torch.zeros(4)
    recipe.loss(0, range(4))
    captions, batch = seen
    for caption, picture in zip(captions, batch, strict=True):
        shown = [i for i in range(12) if torch.equal(pictures.batch(torch.tensor([i]))[0], picture)]
        assert any(caption in phrases(pictures.rows[i]) for i in shown)


def test_samples_are_the_nearest_pictures(tmp_path, pictures):
    finish(toys.contrastive(pictures), quick(sample_every=6), tmp_path)
    with Image.open(tmp_path / "samples" / "step-00000006.png") as sheet:
        assert sheet.size == (8 * 32, 8 * 32)
