from itertools import islice

import pytest
import torch
from PIL import Image

from daguerre.train import loop
from daguerre.train.autoencoder import Discriminator, blotches, chroma, gradient_difference
from daguerre.train.checkpoint import NonFiniteError
from tests.train import toys
from tests.train.line import finish, quick, state


def flat(r, g, b, size=16):
    return torch.tensor([r, g, b]).reshape(1, 3, 1, 1).expand(1, 3, size, size)


def test_chroma_says_the_color_and_not_the_lightness():
    for level in (-1.0, 0.0, 0.7):
        assert chroma(flat(level, level, level), 2).abs().max() < 1e-6
    torch.testing.assert_close(
        chroma(flat(0.5, 0.0, -0.5), 2), torch.tensor([5.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    )
    torch.testing.assert_close(chroma(flat(0.0, 0.5, 0.0), 2)[0, :, 0, 0], torch.tensor([0.0, 6.0]))


def test_the_last_two_channels_are_to_say_the_color(pictures):
    recipe = toys.autoencoder(pictures)
    real = recipe._crops(0, range(4))
    mean, _ = recipe.trained.posterior(real)
    expected = (mean[:, -2:] - chroma(real, 4)).abs().mean().item()
    assert recipe.loss(0, range(4))[1]["chroma"] == pytest.approx(expected, rel=1e-4)


def test_gradient_difference_sees_edges_only():
    picture = torch.rand(2, 3, 8, 8)
    assert gradient_difference(picture, picture + 0.5) < 1e-6
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    assert gradient_difference(step, torch.zeros_like(step)) == pytest.approx(1 / 7)


def test_the_discriminator_scores_patches():
    assert Discriminator()(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 4, 4)


def test_one_batch_is_learned(tmp_path, pictures):
    recipe = toys.OneBatch(toys.autoencoder(pictures, adversary_from=1000))
    records = finish(recipe, quick(save_every=1000, steps=80), tmp_path)
    assert records[-1]["loss"] < 0.3 * records[0]["loss"]
    assert records[-1]["pixel"] < 0.3 * records[0]["pixel"]


def test_the_discriminator_joins_at_its_step_and_learns(tmp_path, pictures):
    recipe = toys.autoencoder(pictures, adversary_from=3)
    before = [p.detach().clone() for p in recipe.discriminator.parameters()]
    moved = []
    for record in loop.train(recipe, quick(steps=5), tmp_path):
        assert ("realism" in record) == (record["step"] > 3)
        assert 0 <= record.get("weight", 0) <= 10 * recipe.objective.adversary
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, recipe.discriminator.parameters(), strict=True)))
    assert moved == [False, False, False, True, True]
    assert len(state(tmp_path)["adversary"]) > 0


def test_the_discriminator_learns_to_tell_real_from_made(pictures):
    recipe = toys.autoencoder(pictures)
    real, made = pictures.batch(torch.arange(4)), torch.zeros(4, 3, 32, 32)
    for step in range(40):
        recipe.seen = [(real, made)]
        recipe.after(step)
    assert recipe.discriminator(real).mean() > 0.5
    assert recipe.discriminator(made).mean() < -0.5


def test_both_players_pull_equally_at_the_last_layer(pictures):
    recipe = toys.autoencoder(pictures)
    made = recipe.trained.decode(torch.randn(2, 4, 4, 4))
    first, second = made.square().mean(), 30 * made.mean()
    weight = recipe._balance(first, second)
    norms = [
        torch.autograd.grad(term, recipe.trained.decoder.conv_out.weight, retain_graph=True)[0].norm()
        for term in (first, second)
    ]
    assert weight * norms[1] == pytest.approx(norms[0].item(), rel=1e-3)


def test_nan_does_not_reach_the_discriminator(pictures):
    recipe = toys.autoencoder(pictures)
    before = [p.detach().clone() for p in recipe.discriminator.parameters()]
    recipe.seen = [(torch.full((1, 3, 32, 32), float("nan")), torch.zeros(1, 3, 32, 32))]
    with pytest.raises(NonFiniteError, match="step 9: the discriminator's loss is nan"):
        recipe.after(9)
    assert all(torch.equal(a, b) for a, b in zip(before, recipe.discriminator.parameters(), strict=True))


def test_a_loss_is_a_function_of_the_step_alone(pictures):
    a, b = toys.autoencoder(pictures), toys.autoencoder(pictures)
    for step in range(3):
        a.loss(step, range(4))
    assert a.loss(5, range(4))[1] == b.loss(5, range(4))[1]
    assert a.loss(5, range(4))[1] != a.loss(6, range(4))[1]


def test_crops_are_parts_of_the_pictures(pictures):
    recipe = toys.autoencoder(pictures, crop=16)
    known = pictures.batch(torch.arange(len(pictures)))
    crops = recipe._crops(0, range(4))
    assert crops.shape == (4, 3, 16, 16)
    windows = known.unfold(2, 16, 1).unfold(3, 16, 1)  # picture, channel, corner, corner, row, column
    for crop in crops:
        here = [(windows == c[:, None, None]).all(dim=(1, 4, 5)).any().item() for c in (crop, crop.flip(-1))]
        assert any(here)


def test_samples_show_pictures_above_their_reconstructions(tmp_path, pictures):
    recipe = toys.autoencoder(pictures)
    for _ in islice(loop.train(recipe, quick(sample_every=2), tmp_path), 2):
        pass
    with Image.open(tmp_path / "samples" / "step-00000002.png") as sheet:
        assert sheet.size == (12 * 32, 2 * 32)
        assert sheet.getpixel((16, 16)) == (255, 0, 0)
        assert sheet.getpixel((0, 0)) == (255, 255, 255)


def test_the_decoder_may_learn_alone(tmp_path, pictures):
    recipe = toys.autoencoder(pictures, decoder_only=True)
    before = {k: v.clone() for k, v in recipe.trained.state_dict().items()}
    finish(recipe, quick(steps=6), tmp_path)
    changed = {k.split(".")[0] for k, v in recipe.trained.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"decoder", "post_quant"}


def test_blotches_are_wide_and_of_any_strength_up_to_one():
    drawn = blotches(3, 0, range(64), (4, 16, 16))
    assert drawn.shape == (64, 4, 16, 16)
    strengths = drawn.std(dim=(1, 2, 3))
    assert 0 <= strengths.min() < 0.1
    assert 0.9 < strengths.max() <= 1
    even = drawn / strengths[:, None, None, None]
    neighbors = (even[..., 1:] * even[..., :-1]).mean()
    assert 0.2 < neighbors < 0.8  # 0 for noise by points
    assert torch.equal(drawn[5:7], blotches(3, 0, range(5, 7), (4, 16, 16)))


def test_a_decoder_that_meets_blotches_is_given_other_latents(pictures):
    plain, spotted = (toys.autoencoder(pictures, **more).loss(0, range(4))[1] for more in ({}, {"blotches": 2.0}))
    assert spotted["pixel"] != plain["pixel"]
    assert spotted["kl"] == plain["kl"]
