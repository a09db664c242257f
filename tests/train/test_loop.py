import json
import logging
import time
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from daguerre.runtime.precision import NumericError
from daguerre.train import loop
from daguerre.train.checkpoint import NonFiniteError
from daguerre.train.contrastive import ContrastiveRecipe
from daguerre.train.denoising import DenoisingRecipe
from daguerre.train.loop import learning_rate
from tests.train.line import QUICK, Line, finish, journal, state


def test_learning_rate_rises_stays_and_falls():
    s = replace(QUICK, steps=100, learning_rate=2.0, warmup=10, decay=20)
    rates = [learning_rate(s, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([2.0 * (20 - n) / 20 for n in range(20)])
    assert {learning_rate(replace(s, warmup=0, decay=0), step) for step in range(100)} == {2.0}


def test_a_run_learns_and_tells(tmp_path):
    records = finish(Line(), replace(QUICK, steps=60, learning_rate=0.1), tmp_path)
    assert [record["step"] for record in records] == list(range(1, 61))
    assert [record["seen"] for record in records] == list(range(60))
    assert records[-1]["loss"] < 0.05 * records[0]["loss"]
    assert journal(tmp_path) == [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def test_every_record_is_logged_that_should_be(tmp_path):
    finish(Line(), replace(QUICK, steps=7, log_every=3), tmp_path)
    assert [record["step"] for record in journal(tmp_path)] == [3, 6]


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.9])
def test_averaged_weights_follow_their_formula(tmp_path, ema):
    recipe = Line()
    average = recipe.trained.weight.detach().clone()
    for record in loop.train(recipe, replace(QUICK, steps=30, ema=ema), tmp_path):
        decay = min(ema, record["step"] / (record["step"] + 10))
        average = decay * average + (1 - decay) * recipe.trained.weight.detach()
    torch.testing.assert_close(state(tmp_path)["averaged"]["weight"], average)


def test_frozen_parameters_do_not_move(tmp_path):
    recipe = Line()
    recipe.trained.bias.requires_grad_(requires_grad=False)
    before = recipe.trained.bias.clone()
    finish(recipe, QUICK, tmp_path)
    assert torch.equal(recipe.trained.bias, before)
    assert not torch.equal(state(tmp_path)["weights"]["weight"], Line().trained.weight)


class Breaking(Line):
    """Whose loss, or only its gradient, is not finite at one step."""

    def __init__(self, at: int, what: str):
        super().__init__()
        self.at, self.what = at, what

    def loss(self, step):
        loss, figures = super().loss(step)
        if step != self.at:
            return loss, figures
        if self.what == "gradient":
            return (loss * 0).sqrt(), figures
        return loss * float(self.what), figures


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("at", [0, 3])
def test_nan_stops_a_run_before_it_reaches_the_weights(tmp_path, at, what):
    recipe = Breaking(at, what)
    steps = loop.train(recipe, QUICK, tmp_path)
    assert len(list(islice(steps, at))) == at
    before = recipe.trained.weight.detach().clone()
    with pytest.raises(NonFiniteError, match=f"step {at}: loss"):
        next(steps)
    assert torch.equal(recipe.trained.weight, before)
    assert [path.name for path in tmp_path.glob("step-*")] == (["step-00000002"] if at else [])
    finish(Line(), QUICK, tmp_path)  # with its cause gone, the run goes on
    finish(Line(), QUICK, tmp_path / "unbroken")
    torch.testing.assert_close(state(tmp_path), state(tmp_path / "unbroken"), rtol=0, atol=0)


def test_weights_that_have_become_nan_are_never_saved(tmp_path):
    recipe = Line()
    steps = loop.train(recipe, replace(QUICK, steps=4), tmp_path)
    assert len(list(islice(steps, 3))) == 3
    recipe.loss = lambda step: (recipe.trained.bias.sum(), {})
    recipe.trained.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="weight of weights is not finite"):
        next(steps)
    assert state(tmp_path)["weights"]["weight"].isfinite().all()


def test_the_clock_ends_a_run_and_saves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.time, "time", iter(range(100)).__next__)
    records = list(loop.train(Line(), replace(QUICK, steps=50, save_every=40), tmp_path, stop=5))
    assert len(records) == 5
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000005"]
    assert len(finish(Line(), replace(QUICK, steps=8), tmp_path)) == 3


def test_a_finished_run_stays_as_it_is(tmp_path):
    finish(Line(), QUICK, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*/*")}
    assert finish(Line(), QUICK, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*/*")} == before


def test_samples_are_drawn_by_the_averaged_weights(tmp_path):
    recipe, settings = Line(), replace(QUICK, steps=4, save_every=2, sample_every=2)
    for _ in loop.train(recipe, settings, tmp_path):
        pass
    assert [path.name for path in sorted(tmp_path.glob("sample-*"))] == ["sample-00000002.png", "sample-00000004.png"]
    drawn = json.loads((tmp_path / "sample-00000004.png").read_text())
    found = state(tmp_path)
    assert torch.equal(torch.tensor(drawn), found["averaged"]["weight"])
    assert torch.equal(recipe.trained.weight, found["weights"]["weight"])
    assert not torch.equal(found["averaged"]["weight"], found["weights"]["weight"])


def test_samples_that_cannot_be_drawn_do_not_end_a_run(tmp_path, caplog):
    class Blind(Line):
        def sample(self, path):
            raise NumericError("all black")

    with caplog.at_level(logging.WARNING):
        assert len(finish(Blind(), replace(QUICK, sample_every=3), tmp_path)) == 6
    assert "no sample pictures at step 3: all black" in caplog.text


def test_another_network_is_refused_by_name(tmp_path):
    finish(Line(), QUICK, tmp_path)
    other = Line()
    other.trained = nn.Linear(5, 1)
    with pytest.raises(ValueError, match=r"holds another network: .*weight.*Name another run folder"):
        finish(other, QUICK, tmp_path)


def test_only_the_autoencoder_has_a_second_player():
    assert not isinstance(Line(), loop.SecondPlayer)
    assert not issubclass(ContrastiveRecipe, loop.SecondPlayer)
    assert not issubclass(DenoisingRecipe, loop.SecondPlayer)


def test_seconds_are_a_steps_own(tmp_path, monkeypatch):
    monkeypatch.setattr(loop._State, "save", lambda self, run: time.sleep(0.2))
    records = finish(Line(), replace(QUICK, save_every=1), tmp_path)
    assert all(record["seconds"] < 0.2 for record in records[1:])
