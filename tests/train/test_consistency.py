"""Consistency distillation: the student sees from everywhere on a way where it ends."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.diffusion.denoiser import spread
from daguerre.diffusion.guidance import ClassifierFree
from daguerre.generate.drawing import Picture
from daguerre.generate.text_to_image import text_to_image
from daguerre.train import loop
from daguerre.train.checkpoint import NonFiniteError
from daguerre.train.config import Consistency
from daguerre.train.consistency import ConsistencyRecipe, boundary
from daguerre.train.randomness import normal
from tests.train.line import finish, quick, same
from tests.train.students import KINDS, Pictures, draw, gradients, teacher


def recipe(kind: str = "v", **settings: object) -> ConsistencyRecipe:
    model = teacher(kind)
    return ConsistencyRecipe(model, Pictures(model), Consistency(**settings), 0, draw)


@given(st.integers(1, 999))
def test_without_noise_the_input_is_the_answer(t: int):
    skip, out = boundary(torch.tensor([0, t]))
    assert (skip[0], out[0]) == (1, 0)
    assert 0 < skip[1] < 0.003
    assert 0.998 < out[1] <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_stop_the_goal_is_the_guided_estimate(kind):
    """So the loss is the Huber distance from the student's estimate in noise alone to the teacher's."""
    student, part = recipe(kind, stops=1, cfg_scale=3.0, huber=0.01), range(4)
    batch, sigma = student.batches(0, part), student.teacher.levels.sigmas[[-1] * 4]
    x = batch.x0 + spread(sigma, batch.x0) * normal(0, "student", 0, part, (4, 8, 8))
    with torch.no_grad():
        bare = student.teacher.denoiser()
        guided = ClassifierFree(bare, student.batches.empty(4), 3.0)
        difference = bare(x, sigma, batch.cond) - guided(x, sigma, batch.cond)
    error = ((difference**2 + 1e-4).sqrt() - 0.01).mean(dim=(1, 2, 3))
    expected = (batch.weight * error).mean().item()
    assert student.loss(0, part)[0].item() == pytest.approx(expected, rel=1e-3)


def test_a_step_along_the_way_leads_to_the_next_stop(monkeypatch):
    """What the target is shown is DDIM's step from what the student is shown."""
    student, part = recipe(stops=4), range(4)
    shown = []
    original = student.teacher.denoiser().__class__.__call__

    def spy(self, x, sigma, cond):
        shown.append((x, sigma))
        return original(self, x, sigma, cond)

    monkeypatch.setattr(student.teacher.denoiser().__class__, "__call__", spy)
    student.loss(0, part)
    (both, _), (nearer, there), (x, here) = shown
    assert torch.equal(both[:4], x)
    assert set(here.tolist()) <= set(student.teacher.levels.sigmas[[249, 499, 749, 999]].tolist())
    with torch.no_grad():
        guided = ClassifierFree(student.teacher.denoiser(), student.batches.empty(4), student.scale)
        slope = (x - guided(x, here, student.batches(0, part).cond)) / spread(here, x)
    torch.testing.assert_close(nearer, x + spread(there - here, x) * slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_a_pure_function(kind):
    one, other = recipe(kind), recipe(kind)
    other.loss(5, range(4))
    assert one.loss(2, range(4)) == other.loss(2, range(4))
    assert one.loss(3, range(4))[0] != one.loss(2, range(4))[0]


def test_micro_batches_make_up_one_piece():
    whole, parts = recipe(), recipe()
    loss, pieces = whole.loss(0, range(4))[0], [parts.loss(0, part)[0] / 2 for part in (range(2), range(2, 4))]
    torch.testing.assert_close(sum(pieces), loss, rtol=1e-4, atol=1e-6)


def test_gradients_reach_only_the_student():
    student = recipe()
    student.loss(0, range(4))[0].backward()
    assert len(gradients(student.trained)) == len(list(student.trained.parameters()))
    assert not [g for module in (*student.teacher.parts.values(), student.target.unet) for g in gradients(module)]


def test_target_follows_the_student():
    student = recipe(target_ema=0.75)
    before = student.target.unet.conv_out.weight.clone()
    with torch.no_grad():
        student.trained.conv_out.weight.add_(1.0)
    student.after(0)
    torch.testing.assert_close(student.target.unet.conv_out.weight, before + 0.25)


def test_learns_the_guided_teacher():
    student = recipe(stops=4, target_ema=0.5)
    optimizer, losses = torch.optim.AdamW(student.trained.parameters(), 1e-3), []
    for step in range(60):
        loss, _ = student.loss(step % 4, range(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        student.after(step)
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    fresh = teacher().unet.state_dict()
    assert all(torch.equal(fresh[k], v) for k, v in student.teacher.unet.state_dict().items())


def test_draws_in_four_steps_by_default():
    model = recipe().student
    *steps, picture = text_to_image(model, replace(model.defaults, prompt="a rocket", seed=1))
    assert isinstance(picture, Picture)
    assert [round(step.sigma.item(), 3) for step in steps] == [
        round(s, 3) for s in model.levels.sigmas[[999, 749, 499, 249]].tolist()
    ]


def test_resumed_equals_unbroken(tmp_path, monkeypatch):
    finish(recipe(), quick(), tmp_path / "unbroken")
    records = loop.train(recipe(), quick(), tmp_path / "broken")
    assert len(list(islice(records, 5))) == 5
    with monkeypatch.context() as patch:
        patch.setattr(loop._State, "save", lambda self, run: None)
        records.close()
    assert len(finish(recipe(), quick(), tmp_path / "broken")) == 2
    same(tmp_path / "broken", tmp_path / "unbroken")


def test_nan_stops_before_it_spreads(tmp_path):
    student = recipe()
    with torch.no_grad():
        student.target.unet.conv_out.bias[0] = torch.nan
    with pytest.raises(NonFiniteError, match="the weights were not changed"):
        finish(student, quick(), tmp_path)
    assert all(torch.isfinite(p).all() for p in student.trained.parameters())
