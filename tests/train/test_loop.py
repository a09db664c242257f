import json
import logging
import time
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from daguerre.request import RequestError
from daguerre.runtime.precision import NumericError
from daguerre.train import checkpoint, loop
from daguerre.train.checkpoint import NonFiniteError
from daguerre.train.config import Loop, Optimizer
from daguerre.train.contrastive import ContrastiveRecipe
from daguerre.train.denoising import DenoisingRecipe
from daguerre.train.loop import deciding, pieces
from tests.train.line import QUICK, Line, finish, journal, quick, same, state


def test_the_rate_of_each_step_is_told(tmp_path):
    stage = replace(quick(steps=8), optimizer=Optimizer(learning_rate=2e-3, warmup=2, decay=4))
    rates = [record["lr"] for record in finish(Line(), stage, tmp_path)]
    assert rates == pytest.approx([1e-3, 2e-3, 2e-3, 2e-3, 2e-3, 1.5e-3, 1e-3, 0.5e-3])


def test_a_run_learns_and_tells(tmp_path):
    records = finish(Line(), quick(0.1, steps=60), tmp_path)
    assert [record["step"] for record in records] == list(range(1, 61))
    assert [record["seen"] for record in records] == list(range(60))
    assert records[-1]["loss"] < 0.05 * records[0]["loss"]
    assert journal(tmp_path) == [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def test_every_record_is_logged_that_should_be(tmp_path):
    finish(Line(), quick(steps=7, log_every=3), tmp_path)
    assert [record["step"] for record in journal(tmp_path)] == [3, 6]


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.9])
def test_averaged_weights_follow_their_formula(tmp_path, ema):
    recipe = Line()
    average = recipe.trained.weight.detach().clone()
    for record in loop.train(recipe, quick(steps=30, ema=ema), tmp_path):
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

    def loss(self, step, part):
        loss, figures = super().loss(step, part)
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
    same(tmp_path, tmp_path / "unbroken")


def test_weights_that_have_become_nan_are_never_saved(tmp_path):
    recipe = Line()
    steps = loop.train(recipe, quick(steps=4), tmp_path)
    assert len(list(islice(steps, 3))) == 3
    recipe.loss = lambda step, part: (recipe.trained.bias.sum(), {})
    recipe.trained.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="weight of weights is not finite"):
        next(steps)
    assert state(tmp_path)["weights"]["weight"].isfinite().all()


def test_the_clock_ends_a_run_and_saves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.time, "time", iter(range(100)).__next__)
    records = list(loop.train(Line(), quick(steps=50, save_every=40), tmp_path, stop=5))
    assert len(records) == 5
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000005"]
    assert len(finish(Line(), quick(steps=8), tmp_path)) == 3


def test_a_finished_run_stays_as_it_is(tmp_path):
    finish(Line(), QUICK, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*/*")}
    assert finish(Line(), QUICK, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("step-*/*")} == before


def test_samples_are_drawn_by_the_averaged_weights(tmp_path):
    recipe = Line()
    finish(recipe, quick(steps=4, sample_every=2, ema=0.9), tmp_path)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step-00000002.png", "step-00000004.png"]
    drawn = json.loads((tmp_path / "samples" / "step-00000004.png").read_text())
    found = state(tmp_path)
    assert torch.equal(torch.tensor(drawn), found["averaged"]["weight"])
    assert torch.equal(recipe.trained.weight, found["weights"]["weight"])
    assert not torch.equal(found["averaged"]["weight"], found["weights"]["weight"])


def test_samples_that_cannot_be_drawn_do_not_end_a_run(tmp_path, caplog):
    class Blind(Line):
        def sample(self, path):
            raise NumericError("all black")

    with caplog.at_level(logging.WARNING):
        assert len(finish(Blind(), quick(sample_every=3), tmp_path)) == 6
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
    records = finish(Line(), quick(save_every=1), tmp_path)
    assert all(record["seconds"] < 0.2 for record in records[1:])


def test_a_batch_in_pieces_is_the_whole_batch(tmp_path):
    finish(Line(), quick(batch=5), tmp_path / "whole")
    finish(Line(), quick(batch=5, accumulate=3), tmp_path / "pieces")
    torch.testing.assert_close(state(tmp_path / "pieces"), state(tmp_path / "whole"))
    for whole, cut in zip(journal(tmp_path / "whole"), journal(tmp_path / "pieces"), strict=True):
        assert cut == pytest.approx(whole, rel=1e-5)


def test_pieces_are_of_nearly_equal_length():
    assert pieces(range(5), 3) == [range(1), range(1, 3), range(3, 5)]
    assert pieces(range(8, 12), 2) == [range(8, 10), range(10, 12)]
    for count in (0, 6):
        with pytest.raises(RequestError, match=r"loop.accumulate is \d; a batch of 5 allows 1 to 5"):
            pieces(range(5), count)


def test_changed_settings_are_refused_by_name_and_accepted_with_a_mark(tmp_path):
    begun = replace(QUICK, identity={"data.size": 512, "optimizer.rates": {"unet.*": 1e-4}})
    finish(Line(), begun, tmp_path)
    other = replace(begun, identity={"data.size": 256, "optimizer.rates": {"unet.*": 1e-4}})
    other = replace(other, loop=replace(other.loop, steps=8))
    with pytest.raises(RequestError, match=r"begun otherwise: data.size was 512 and is 256\. Name another run folder"):
        finish(Line(), other, tmp_path)
    assert len(finish(Line(), replace(other, allow_changes=True), tmp_path)) == 2
    notes, _ = checkpoint.newest(tmp_path)
    assert (notes["step"], notes["exact"]) == (8, False)
    finish(Line(), replace(other, loop=replace(other.loop, steps=10)), tmp_path)  # nothing changed since, but
    assert checkpoint.newest(tmp_path)[0]["exact"] is False


def test_settings_that_decide_the_weights_are_told_apart():
    usual = deciding(Loop(), Optimizer())
    assert deciding(Loop(save_every=3, keep=9, steps=7), Optimizer()) == usual
    assert deciding(Loop(batch=5), Optimizer()) == usual | {"loop.batch": 5}
    assert deciding(Loop(steps=7), Optimizer(decay=3)) == usual | {"loop.steps": 7, "optimizer.decay": 3}


def test_closing_a_run_saves_it(tmp_path):
    records = loop.train(Line(), quick(save_every=1000), tmp_path)
    assert len(list(islice(records, 3))) == 3
    records.close()
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000003"]
    assert len(finish(Line(), QUICK, tmp_path)) == 3


def test_as_many_checkpoints_are_kept_as_wanted(tmp_path):
    finish(Line(), quick(steps=8, keep=3), tmp_path)
    assert sorted(path.name[-1] for path in tmp_path.glob("step-*")) == ["4", "6", "8"]


class Half(nn.Linear):
    """Tells of the number formats that it computes in."""

    def forward(self, x):
        y = super().forward(x)
        self.used = y.dtype
        return y


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_forward_pass_is_in_half_precision_and_weights_are_not(tmp_path, precision):
    recipe = Line()
    recipe.trained = Half(4, 1)
    records = finish(recipe, quick(0.1, steps=60, precision=precision), tmp_path)
    assert str(recipe.trained.used) == f"torch.{precision}"
    assert records[-1]["loss"] < 0.05 * records[0]["loss"]
    assert recipe.trained.weight.dtype == torch.float32
    assert ("scaler" in state(tmp_path)) == (precision == "float16")


def test_an_overflow_of_half_precision_leaves_a_step_out(tmp_path):
    recipe = Line()
    inner, recipe.loss = recipe.loss, lambda step, part: (inner(step, part)[0] * 1e34, {})  # times 65536: infinite
    before = recipe.trained.weight.detach().clone()
    records = loop.train(recipe, quick(precision="float16"), tmp_path)
    assert "norm" not in next(records)  # it is infinite, and JSON knows no such number
    assert torch.equal(recipe.trained.weight, before)
    assert next(records)["step"] == 2
    records.close()
    assert state(tmp_path)["scaler"]["scale"] == 2.0**14


@pytest.mark.parametrize("what", ["nan", "gradient"])
def test_nan_stops_half_precision_too(tmp_path, what):
    with pytest.raises(NonFiniteError, match="the weights were not changed"):
        finish(Breaking(2, what), quick(precision="bfloat16"), tmp_path)
    assert state(tmp_path)["weights"]["weight"].isfinite().all()
