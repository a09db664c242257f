"""The learning-rate finder: what it finds is good, and nothing remembers that it was there."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from daguerre.request import RequestError
from daguerre.train.config import Loop, Optimizer
from daguerre.train.finder import Found, draw, find_rate
from daguerre.train.loop import Stage
from daguerre.train.optimizers import build

STAGE = Stage(loop=Loop(batch=8, accumulate=2), optimizer=Optimizer(weight_decay=0.0))


class Points:
    """A small network fits points whose losses differ by a factor of tens, as those of noise levels do."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.trained = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))
        self.seen: list[range] | None = None
        self.moves = 0

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        rows = [torch.randn(7, generator=torch.Generator().manual_seed(1000 * step + i)) for i in part]
        x, weight = torch.stack(rows).split([6, 1], dim=1)
        error = self.trained(x) - torch.sin(x.sum(dim=1, keepdim=True))
        self.seen = [*(self.seen or []), part]
        return (error.square() * weight.exp()).mean(), {}

    def sample(self, path: Path) -> None:
        raise AssertionError("nothing is drawn")

    def after(self, step: int) -> None:
        self.moves += 1

    def extra(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def restore(self, parts: object) -> None:
        raise AssertionError("nothing is restored")


def trained_for(rate: float, name: str = "adamw") -> float:
    """The loss after a short run at this rate."""
    recipe = Points()
    options = {"momentum": 0.9} if name.endswith("SGD") else {}
    o = Optimizer(name=name, learning_rate=rate, options=options)
    optimizer = build(o, dict(recipe.trained.named_parameters()))
    for step in range(150):
        recipe.loss(step, range(8))[0].backward()
        nn.utils.clip_grad_norm_(recipe.trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return sum(recipe.loss(step, range(64))[0].item() for step in range(10_000, 10_010)) / 10


@pytest.mark.parametrize("name", ["adamw", "torch.optim:SGD", "schedule_free"])
def test_what_it_finds_teaches_more_than_a_thirtieth_and_a_hundred_times_of_it(name):
    options = {"momentum": 0.9} if name.endswith("SGD") else {}
    found = find_rate(Points(), replace(STAGE, optimizer=Optimizer(name=name, options=options)), last=100.0)
    assert found.rate is not None
    here = trained_for(found.rate, name)
    assert here < 0.9 * trained_for(found.rate / 30, name)
    assert here < trained_for(found.rate * 100, name)


def test_it_stops_where_the_loss_runs_away():
    found = find_rate(Points(), replace(STAGE, optimizer=Optimizer(weight_decay=0.0)), last=1e4)
    rates, losses = zip(*found.curve, strict=True)
    assert len(rates) < 100
    assert rates[-1] < 1e3
    assert found.rate is not None
    assert found.rate < rates[losses.index(min(losses))] <= rates[-1]
    assert rates[0] == 1e-7
    assert all(b / a == pytest.approx(rates[1] / rates[0]) for a, b in pairwise(rates))


def test_nothing_remembers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Points()
    weights = {k: v.clone() for k, v in recipe.trained.state_dict().items()}
    loss, parameters = recipe.loss, list(recipe.trained.parameters())
    torch.manual_seed(3)
    numbers = torch.random.get_rng_state()
    find_rate(recipe, STAGE)
    torch.testing.assert_close(recipe.trained.state_dict(), weights, rtol=0, atol=0)
    assert [id(p) for p in recipe.trained.parameters()] == [id(p) for p in parameters]
    assert all(p.grad is None for p in parameters)
    assert recipe.seen is None
    assert recipe.moves == 0
    assert recipe.loss == loss
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert not list(tmp_path.iterdir())


def test_weights_come_back_after_an_error_too():
    recipe = Points()
    weights = {k: v.clone() for k, v in recipe.trained.state_dict().items()}
    good = recipe.loss

    def loss(step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        if step == 5 and recipe.trained[0].bias.ne(weights["0.bias"]).any():
            raise KeyboardInterrupt
        return good(step, part)

    recipe.loss = loss
    with pytest.raises(KeyboardInterrupt):
        find_rate(recipe, STAGE, first=1e-3)
    torch.testing.assert_close(recipe.trained.state_dict(), weights, rtol=0, atol=0)


def test_micro_batches_change_nothing():
    whole = find_rate(Points(), replace(STAGE, loop=Loop(batch=8)))
    parts = find_rate(Points(), STAGE)
    assert parts.rate == whole.rate
    assert [loss for _, loss in parts.curve[:50]] == pytest.approx([loss for _, loss in whole.curve[:50]], rel=1e-4)


def test_where_nothing_falls_nothing_is_found():
    recipe = Points()
    good = recipe.loss
    recipe.loss = lambda step, part: (-good(step, part)[0].clamp(max=0.0) + good(step, part)[0] * 0 + 1, {})
    assert find_rate(recipe, STAGE).rate is None
    recipe.loss = lambda step, part: (good(step, part)[0] * float("nan"), {})
    assert find_rate(recipe, STAGE) == Found(None, [])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prodigy", {}, "finds its rate itself"),
        ("adamw", {"first": 0.0}, "must rise from above 0"),
        ("adamw", {"first": 1.0, "last": 0.1}, "rates from 1 to 0.1"),
        ("adamw", {"steps": 5}, "in 10 or more"),
    ],
)
def test_what_makes_no_sense_is_told(name, options, message):
    with pytest.raises(RequestError, match=message):
        find_rate(Points(), replace(STAGE, optimizer=Optimizer(name=name)), **options)


@pytest.mark.parametrize("found", [Found(1e-3, [(1e-4, 1.0), (1e-3, 0.5), (1e-2, 3.0)]), Found(None, [])])
def test_the_curve_is_drawn(tmp_path, found):
    draw(found, tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.size == (700, 400)
        assert len(set(picture.convert("L").tobytes())) > 10
