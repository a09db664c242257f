"""Adversarial distillation: a student of few steps, against its teacher and a discriminator."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daguerre.diffusion.denoiser import spread
from daguerre.diffusion.guidance import ClassifierFree
from daguerre.diffusion.noise import initial
from daguerre.diffusion.schedule import SCHEDULES, scaled_linear
from daguerre.generate.drawing import Picture
from daguerre.generate.text_to_image import text_to_image
from daguerre.train import loop
from daguerre.train.adversarial import AdversarialRecipe, features_of
from daguerre.train.checkpoint import NonFiniteError
from daguerre.train.config import Adversarial
from daguerre.train.randomness import normal
from daguerre.train.teacher import rungs
from tests.train.line import finish, quick, same
from tests.train.students import KINDS, Pictures, draw, gradients, teacher

PAIRS = {"pairs": 1, "pair_steps": 6}
ALONE = {**PAIRS, "adversary_from": 1000}  # only the teacher's pictures count


def recipe(kind: str = "v", **settings: object) -> AdversarialRecipe:
    model = teacher(kind)
    return AdversarialRecipe(model, Pictures(model), Adversarial(**settings), 0, draw)


@pytest.fixture(scope="module")
def distilled() -> tuple[AdversarialRecipe, list[float]]:
    """A student of one step that has seen one batch of ways again and again, and its losses."""
    student = recipe(student_steps=(1,), **ALONE)
    optimizer, losses = torch.optim.AdamW(student.trained.parameters(), 3e-3), []
    for step in range(80):
        loss, _ = student.loss(step, range(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return student, losses


def test_one_batch_overfits(distilled):
    _, losses = distilled
    assert losses[-1] < 0.1 * losses[0]


def test_student_does_in_one_step_what_the_teacher_needs_many_for(distilled):
    student, _ = distilled
    task = student._task(0, range(4))
    sigmas = task.sigma, task.cond

    def error(model):
        with torch.no_grad():
            return (model.denoiser()(task.x, *sigmas) - task.x0).square().mean()

    assert error(student.student) < 0.2 * error(student.teacher)


def test_teacher_stays_as_it_was(distilled):
    student, _ = distilled
    fresh = teacher().unet.state_dict()
    assert all(torch.equal(fresh[k], v) for k, v in student.teacher.unet.state_dict().items())
    assert not torch.equal(fresh["conv_out.weight"], student.trained.state_dict()["conv_out.weight"])


def test_draws_in_one_step_by_default(distilled):
    student, _ = distilled
    model, levels = student.student, student.levels
    request = replace(model.defaults, prompt="a rocket", seed=3)
    assert (request.steps, request.cfg_scale) == (1, 1.0)
    *steps, picture = text_to_image(model, request)
    assert isinstance(picture, Picture)
    assert len(steps) == 1
    with torch.no_grad():
        x = initial([3], (4, 8, 8)) * levels.sigmas[-1]
        expected = model.denoiser()(x, levels.sigmas[-1], model.encode(request)[0])
    torch.testing.assert_close(steps[0].x, expected, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 60))
def test_rungs_are_where_sampling_will_be(n: int):
    levels = scaled_linear()
    assert torch.equal(levels.sigmas[rungs(levels, (n,))], SCHEDULES["turbo"](levels, n)[:-1])


def test_student_meets_all_rungs_and_begins_with_noise_alone():
    student = recipe(student_steps=(1, 2))
    assert student.timesteps.tolist() == [999, 999, 499]
    levels, met = student.levels, set()
    for step in range(8):
        task, batch = student._task(step, range(4)), student.batches(step, range(4))
        noise = spread(task.sigma, task.x) * normal(0, "student", step, range(4), (4, 8, 8))
        first = spread((task.sigma == levels.sigmas[-1]).float(), noise)
        torch.testing.assert_close(task.x, noise + (1 - first) * batch.x0)
        met |= set(task.sigma.tolist())
    assert met == set(levels.sigmas[[499, 999]].tolist())


def test_ways_lead_where_the_teacher_goes():
    """By the same solver at the same levels, one picture alone."""
    student = recipe(student_steps=(2,), pairs=3, pair_steps=6)
    ways, model = student.ways, student.teacher
    states, x0, cond = ways(2, range(4))
    assert states.shape == (2, *x0.shape)
    noise = normal(0, "way", 2, range(4), (4, 8, 8))
    torch.testing.assert_close(states[0], noise * model.levels.sigmas[-1])
    assert model.levels.sigmas[499] in ways.sigmas
    denoise = ClassifierFree(model.denoiser(), student.batches.empty(4), 2.0)
    with torch.no_grad():
        low = ways.sigmas[-2]
        before = states[0]
        for a, b in zip(ways.sigmas[:-1], ways.sigmas[1:], strict=True):  # Euler is near it
            estimate = denoise(before, a, cond)
            before = estimate + b / a * (before - estimate)
    assert low < 0.1
    assert (before - x0).square().mean() < 0.1 * x0.square().mean()
    again = recipe(student_steps=(2,), pairs=3, pair_steps=6).ways(2, range(4))
    assert torch.equal(again.x0, x0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, PAIRS], ids=["data", "pairs"])
def test_loss_is_a_pure_function(kind, settings):
    one, other = recipe(kind, **settings), recipe(kind, **settings)
    other.loss(5, range(4))
    (a, told), (b, _) = one.loss(2, range(4)), other.loss(2, range(4))
    assert a == b
    assert told.keys() >= {"realism", "of data", "distillation"}
    assert one.loss(3, range(4))[0] != a


@pytest.mark.parametrize("settings", [{}, PAIRS], ids=["data", "pairs"])
def test_micro_batches_make_up_one_piece(settings):
    whole, parts = recipe(**settings), recipe(**settings)
    loss, _ = whole.loss(0, range(4))
    pieces = [parts.loss(0, part)[0] / 2 for part in (range(2), range(2, 4))]
    torch.testing.assert_close(sum(pieces), loss, rtol=1e-5, atol=1e-5)
    for one in (loss, *pieces):
        one.backward()
    pairs = zip(gradients(whole.trained), gradients(parts.trained), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs)
    whole.after(0)
    parts.after(0)
    assert not whole.seen
    grads = zip(gradients(whole.discriminator), gradients(parts.discriminator), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in grads)


def test_gradients_reach_only_the_student():
    student = recipe()
    student.loss(0, range(4))[0].backward()
    assert len(gradients(student.trained)) == len(list(student.trained.parameters()))
    teacher_parts = student.teacher.parts.values()
    assert not [g for module in (*teacher_parts, student.discriminator) for g in gradients(module)]


def test_realism_and_the_teacher_both_move_the_student():
    for settings in ({"adversary": 0.0}, {"distillation": 0.0}):
        student = recipe(**settings)
        student.loss(0, range(4))[0].backward()
        assert max(g.abs().max() for g in gradients(student.trained)) > 0
    nothing = recipe(adversary=0.0, distillation=0.0)
    nothing.loss(0, range(4))[0].backward()
    assert max(g.abs().max() for g in gradients(nothing.trained)) == 0


def test_distillation_is_the_distance_to_the_guided_estimate():
    student, part = recipe(cfg_scale=3.0), range(4)
    _, told = student.loss(0, part)
    task, seen = student._task(0, part), student.seen[0][2]
    with torch.no_grad():
        made = student.student.denoiser()(task.x, task.sigma, task.cond)
        sigma = student.levels.sigmas[seen.t]
        noisy = made + spread(sigma, made) * normal(0, "made", 0, part, (4, 8, 8))
        guided = ClassifierFree(student.teacher.denoiser(), student.batches.empty(4), 3.0)
        distance = (made - guided(noisy, sigma, task.cond)).square().mean(dim=(1, 2, 3))
    expected = (distance / (sigma**2 + 1).sqrt()).mean().item()
    assert told["distillation"] == pytest.approx(expected, rel=1e-4)


def told_apart(**settings: object) -> float:
    """How much better the data scores than what is made, after a few moves on one batch."""
    student = recipe(adversary_rate=1e-2, **settings)
    for _ in range(15):
        _, told = student.loss(0, range(4))
        student.after(0)
    return told["of data"] - told["realism"]


def test_discriminator_learns_to_tell():
    assert told_apart() > 1


def test_gradient_penalty_flattens_the_discriminator():
    assert told_apart(gradient_penalty=100.0) < 0.5 * told_apart(gradient_penalty=0.0)


def test_features_are_of_every_level():
    model = teacher()
    with torch.no_grad(), features_of(model.unet) as found:
        model.denoiser()(torch.randn(1, 4, 8, 8), torch.tensor(1.0), Pictures(model).empty(1))
    assert [tuple(f.shape) for f in found] == [(1, 32, 8, 8), (1, 64, 4, 4), (1, 64, 4, 4)]
    with torch.no_grad():
        model.denoiser()(torch.randn(1, 4, 8, 8), torch.tensor(1.0), Pictures(model).empty(1))
    assert len(found) == 3  # no hook is left


def test_resumed_equals_unbroken(tmp_path, monkeypatch):
    settings = {**PAIRS, "pairs": 2, "adversary_from": 1}
    finish(recipe(**settings), quick(), tmp_path / "unbroken")
    records = loop.train(recipe(**settings), quick(), tmp_path / "broken")
    assert len(list(islice(records, 5))) == 5  # after the checkpoint of step 4, with the discriminator in play
    with monkeypatch.context() as patch:
        patch.setattr(loop._State, "save", lambda self, run: None)
        records.close()
    assert len(finish(recipe(**settings), quick(), tmp_path / "broken")) == 2
    same(tmp_path / "broken", tmp_path / "unbroken")


def test_nan_stops_before_it_spreads(tmp_path):
    student = recipe()
    student.loss(0, range(4))
    weights = student.discriminator[0].score.weight
    with torch.no_grad():
        weights[:] = torch.nan
    with pytest.raises(NonFiniteError, match="step 0: the discriminator's loss is nan"):
        student.after(0)
    with pytest.raises(NonFiniteError, match="the weights were not changed"):
        finish(student, quick(), tmp_path)
    assert all(torch.isfinite(p).all() for p in student.trained.parameters())
